"""Files that come from outside the pipeline: models, SAEs, corpora, labels; and their fingerprints.

A study names them by path. What was made from them must become stale when they change under the
same name, so their contents count among the settings.
"""

import glob
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from aanet_assets.study import Study, resolve

_LARGE = 64 * 2**20


def input_files(study: Study, field: str) -> list[Path]:
    """Files behind one field of the study, sorted; none where it names a thing on the hub."""
    match field:
        case "model":
            return _files_in(resolve(study.model))
        case "sae" if study.sae.directory is not None:
            return _files_in(resolve(study.sae.directory))
        case "corpus" if study.corpus.files is not None:
            return files_like(study.corpus.files)
        case "clustering" if study.clustering.labels_file is not None:
            labels = {labels_path(study.clustering.labels_file, n) for n in study.n_clusters}
            return sorted(path for path in labels if path.is_file())
        case _:
            return []


def files_like(pattern: str) -> list[Path]:
    """Files that match a glob, relative to the project's folder; sorted."""
    return sorted(map(Path, glob.glob(str(resolve(pattern)), recursive=True)))


def labels_path(labels_file: str, n_clusters: int) -> Path:
    """The labels file of one clustering; `{n}` in the name stands for n_clusters."""
    return resolve(labels_file.replace("{n}", str(n_clusters)))


def fingerprint(files: Iterable[Path]) -> list[tuple[str, int, str]]:
    """Name, size and hash of each file.

    Files above 64 MiB count by name and size alone: hashing the weights of a large model would
    take longer than all else that a status or a sensor does.
    """
    found = []
    for path in files:
        stat = path.stat()
        content = _content_hash(path, stat.st_mtime_ns) if stat.st_size <= _LARGE else "large"
        found.append((path.name, stat.st_size, content))
    return found


@cache
def _content_hash(path: Path, _modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
