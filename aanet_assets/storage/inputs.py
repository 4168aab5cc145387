"""Files that come from outside the pipeline: models, SAEs, corpora, labels; and their contents.

A study names them by path. What was made from them must become stale when they change under the
same name, so their contents count among the settings. Only what loading reads counts: what file
managers, editors and downloads leave beside it changes nothing.
"""

import glob
import json
import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from aanet_assets.storage.fingerprints import hash_of, hash_of_bytes
from aanet_assets.study.study import Study, process_path, resolve

# What transformers and SAELens read of a folder: configs, weights, vocabularies, code.
_LOADED = (
    "*.json", "*.safetensors", "*.bin", "*.py", "*.jinja",
    "*.model", "*.tiktoken", "*.spm", "*.codes", "*.bpe", "*vocab*.txt", "merges.txt", "dict.txt",
)  # fmt: skip
# Text in the formats that datasets knows, by the endings of the names, and archives of it.
_DATA = (
    ".parquet", ".geoparquet", ".arrow", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt",
    ".xml", ".h5", ".hdf5", ".lance", ".conll", ".conllu", ".tar", ".tgz", ".zip", ".py",
    ".yaml", ".yml",
)  # fmt: skip
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".7z")
_CARD, _STANDALONE_CARD = "README.md", ".huggingface.yaml"
_LITTER = ("*~", "*.swp", "*.swo", "*.bak", "*.orig", "#*#", "Thumbs.db", "desktop.ini")


def input_files(study: Study, field: str) -> list[Path]:
    """Files behind one field of the study, sorted; none where it names a thing on the hub."""
    return sorted(_named(study, field).values())


def is_input(study: Study, path: Path) -> bool:
    """Whether a field of the study names this file, whether it is there or not, or its folder."""
    folders = (study.model, study.sae.directory, study.corpus.dataset)
    targets = study.truth.targets if study.truth else None
    patterns = (study.corpus.files, study.clustering.labels_file, targets)
    if study.process is not None and path == process_path(study.process):
        return True
    return any(resolve(folder) in path.parents for folder in folders if folder) or any(
        fnmatchcase(str(path), str(resolve(pattern.replace("{n}", "*"))))
        for pattern in patterns
        if pattern
    )


def input_hashes(study: Study, field: str) -> dict[str, str]:
    """SHA-256 of each of those files, by its name relative to the folder that the study names.

    Of a dataset's `README.md` only the header counts, which says what files the dataset has.
    """
    hashes = {}
    for name, path in _named(study, field).items():
        if field == "corpus" and name == _CARD:
            hashes[name] = hash_of_bytes(_header(path))
        else:
            hashes[name] = hash_of(path)
    return hashes


def files_like(pattern: str) -> list[Path]:
    """Files that match a glob, relative to the project's folder; sorted.

    A name that is there as it stands is taken as a name, brackets and all, unless it also matches
    itself as a pattern. What editors and file managers leave is passed over.
    """
    return sorted(_matches(pattern).values())


def broken_links(pattern: str) -> list[Path]:
    """Links that match a glob as files would, and lead nowhere; sorted."""
    base, names = _globbed(pattern)
    return sorted(
        path for name in names if (path := base / name).is_symlink() and not path.exists()
    )


def data_files(folder: Path) -> list[str]:
    """Files of data in a dataset's folder and its subfolders, by their names relative to it."""
    return sorted(
        name for name, path in _dataset(folder) if path.name not in (_CARD, _STANDALONE_CARD)
    )


def data_kind(name: str) -> str:
    """Ending of a file of data without that of its compression; empty for other files."""
    endings = [ending.lower() for ending in Path(name).suffixes[-2:]]
    if endings and endings[-1] in _COMPRESSED:
        endings.pop()
    is_data = not name.startswith(".") and endings and endings[-1] in _DATA
    return endings[-1] if is_data else ""


def card_names_files(folder: Path) -> bool:
    """Whether a dataset's folder says of itself which files it has."""
    card = folder / _CARD
    said = b"data_files" in _header(card) if card.is_file() else False
    return said or (folder / _STANDALONE_CARD).is_file()


def indexed(index: Path) -> set[str]:
    """Files that hold the weights of a model in parts."""
    try:
        return set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # It is damaged, which loading will say; its own content counts all the same.
        return set()


def labels_path(labels_file: str, n_clusters: int) -> Path:
    """The labels file of one clustering; `{n}` in the name stands for n_clusters."""
    return resolve(labels_file.replace("{n}", str(n_clusters)))


def _named(study: Study, field: str) -> dict[str, Path]:
    """Files behind one field, by their names relative to the folder that the study names."""
    match field:
        case "model":
            return dict(sorted(_loaded(resolve(study.model))))
        case "sae" if study.sae.directory is not None:
            return dict(sorted(_loaded(resolve(study.sae.directory))))
        case "corpus" if study.corpus.files is not None:
            return _matches(study.corpus.files)
        case "corpus" if study.corpus.dataset is not None:
            return dict(sorted(_dataset(resolve(study.corpus.dataset))))
        case "clustering" if study.clustering.labels_file is not None:
            pattern = study.clustering.labels_file
            labels = {str(n): labels_path(pattern, n) for n in study.n_clusters}
            named = {pattern.replace("{n}", n): path for n, path in labels.items()}
            return {name: path for name, path in sorted(named.items()) if path.is_file()}
        case "truth.process" if study.process is not None:
            path = process_path(study.process)
            return {study.process: path} if path.is_file() else {}
        case "truth.targets" if study.truth is not None and study.truth.targets is not None:
            path = resolve(study.truth.targets)
            return {study.truth.targets: path} if path.is_file() else {}
        case _:
            return {}


def _loaded(folder: Path) -> Iterator[tuple[str, Path]]:
    """What loading a model or an SAE reads: files at the top, and weights that an index names."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if not path.name.startswith(".") and any(fnmatchcase(path.name, kind) for kind in _LOADED):
            if path.is_file():
                yield path.name, path
            if path.name.endswith(".index.json"):
                for name in indexed(path):
                    if (folder / name).is_file():
                        yield name, folder / name


def _dataset(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder that `load_dataset` may read, with those of its subfolders."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        here = Path(root)
        # Links may lead around in a circle.
        if (real := here.resolve()) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for name in names:
            path = here / name
            is_card = here == folder and name in (_CARD, _STANDALONE_CARD)
            if path.is_file() and (is_card or data_kind(name)):
                yield path.relative_to(folder).as_posix(), path


def _header(card: Path) -> bytes:
    """The part of a dataset's card between its first lines of dashes; empty without one."""
    lines = card.read_bytes().splitlines()
    if not lines or lines[0].strip() != b"---":
        return b""
    end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == b"---"), 0)
    return b"\n".join(lines[1:end])


def _matches(pattern: str) -> dict[str, Path]:
    """Files that match a glob, by their names relative to the part of it that is no pattern."""
    base, names = _globbed(pattern)
    return {Path(name).as_posix(): base / name for name in sorted(names) if (base / name).is_file()}


def _globbed(pattern: str) -> tuple[Path, list[str]]:
    """The part of a glob that is no pattern, and what matches in it, but for litter."""
    whole = resolve(pattern)
    base = Path(whole.anchor)
    parts = list(whole.parts[1:])
    while parts and _is_name(base, parts[0]):
        base /= parts.pop(0)
    if not parts:
        return base.parent, [base.name]
    found = glob.glob(os.path.join(*parts), root_dir=base, recursive=True)
    return base, [
        name for name in found if not any(fnmatchcase(Path(name).name, kind) for kind in _LITTER)
    ]


def _is_name(folder: Path, part: str) -> bool:
    """Whether a part of a path is a name, and not a pattern."""
    if not glob.has_magic(part):
        return True
    return not fnmatchcase(part, part) and (folder / part).exists()
