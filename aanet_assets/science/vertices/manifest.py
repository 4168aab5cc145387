"""The manifest of stage 3 for a whole study: one file made from those of each n_clusters.

It belongs to no partition. It is made anew whenever one of them has been made or refused, and at
the end of `aanet run`, so that nothing stays in it that is no longer there or in the study.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from aanet_assets.science.vertices.original import manifest_fields
from aanet_assets.storage.files import write_json
from aanet_assets.study.study import Study


def manifest_file(study: Study) -> Path:
    """Where it lies."""
    return study.paths.root / "selected_clusters" / "manifest.json"


def rewrite(study: Study, parts: Mapping[int, Path]) -> None:
    """Bring the study's manifest up to date; without any samples there is none.

    Args:
        parts: the manifests of the n_clusters that are there.

    Raises:
        ValueError: one of them cannot be read; says what to do.
    """
    path = manifest_file(study)
    study.paths.locks.mkdir(parents=True, exist_ok=True)
    with FileLock(study.paths.locks / "manifest.lock"):
        content = _expected(study, parts)
        if content is None:
            path.unlink(missing_ok=True)
        elif content != _stored(path):
            write_json(path, content)


def manifest_problem(study: Study, parts: Mapping[int, Path]) -> str | None:
    """How the study's manifest differs from what it would be if made now; None if it does not."""
    try:
        expected = _expected(study, parts)
    except ValueError as error:
        return f"cannot be compared: {error}"
    stored = _stored(manifest_file(study))
    if stored == expected:
        return None
    return "is missing or damaged" if stored is None else "does not tell of what is there now"


def _expected(study: Study, parts: Mapping[int, Path]) -> dict[str, Any] | None:
    """Of all partitions that are there, and of the model, SAE and settings that the study has now.

    As in the database, what they were made from may be stale; `aanet status` says so.
    """
    found = {}
    for n, path in parts.items():
        try:
            part = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
            raise ValueError(
                f"{path} is missing or damaged; what to do: aanet doctor {study.name}"
            ) from None
        results = part.get("vertex_collection", {}).get("results", [])
        alike = _manifest(study, [n], part["clusters"], results)
        if all(part.get(name) == value for name, value in alike.items()):
            found[n] = (part["clusters"], results)
    if not found:
        return None
    clusters, results = (
        [one for part in found.values() for one in part[place]] for place in (0, 1)
    )
    return _manifest(study, list(found), clusters, results)


def _manifest(study: Study, n_clusters: list[int], clusters: list, results: list) -> dict[str, Any]:
    return {
        "study": study.name,
        "mode": study.refit.mode,
        "model": study.model,
        "sae_id": study.sae.name,
        **manifest_fields(study, n_clusters, clusters, results),
    }


def _stored(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return None
