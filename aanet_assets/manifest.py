"""The manifest of stage 3 for a whole study: one file made from those of each n_clusters.

It belongs to no partition. It is made anew whenever one of them has been made or refused, and at
the end of `aanet run`, so that nothing stays in it that is no longer there or in the study.
"""

import json
from typing import Any

from filelock import FileLock

from aanet_assets.files import write_json
from aanet_assets.lineage import partitions, steps
from aanet_assets.records import read_record
from aanet_assets.study import Study
from aanet_assets.vertices.original import manifest_fields


def rewrite_manifest(study: Study) -> None:
    """Bring the study's manifest up to date; without any samples there is none.

    Raises:
        ValueError: the manifest of one n_clusters cannot be read; says what to do.
    """
    path = study.paths.manifest
    study.paths.locks.mkdir(parents=True, exist_ok=True)
    with FileLock(study.paths.locks / "manifest.lock"):
        content = _expected(study)
        if content is None:
            path.unlink(missing_ok=True)
        elif content != _stored(study):
            write_json(path, content)


def manifest_problem(study: Study) -> str | None:
    """How the study's manifest differs from what it would be if made now; None if it does not."""
    try:
        expected = _expected(study)
    except ValueError as error:
        return f"cannot be compared: {error}"
    stored = _stored(study)
    if stored == expected:
        return None
    return "is missing or damaged" if stored is None else "does not tell of what is there now"


def _expected(study: Study) -> dict[str, Any] | None:
    """Of all partitions that are there, and of the model, SAE and settings that the study has now.

    As in the database, what they were made from may be stale; `aanet status` says so.
    """
    parts = {}
    for partition in partitions(study, steps(study)["vertex_samples"]):
        if read_record(study, partition) is None:
            continue
        assert partition.n is not None
        path = study.paths.stage3_manifest(partition.n)
        try:
            part = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
            raise ValueError(
                f"{path} is missing or damaged; what to do: aanet doctor {study.name}"
            ) from None
        results = part.get("vertex_collection", {}).get("results", [])
        alike = _manifest(study, [partition.n], part["clusters"], results)
        if all(part.get(name) == value for name, value in alike.items()):
            parts[partition.n] = (part["clusters"], results)
    if not parts:
        return None
    clusters, results = (
        [one for part in parts.values() for one in part[place]] for place in (0, 1)
    )
    return _manifest(study, list(parts), clusters, results)


def _manifest(study: Study, n_clusters: list[int], clusters: list, results: list) -> dict[str, Any]:
    return {
        "study": study.name,
        "mode": study.refit.mode,
        "model": study.model,
        "sae_id": study.sae.name,
        **manifest_fields(study, n_clusters, clusters, results),
    }


def _stored(study: Study) -> Any:
    try:
        return json.loads(study.paths.manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return None
