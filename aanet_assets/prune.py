"""Files in a study's folder that the study as it is now does not need, and their removal.

Only files with the names that the pipeline gives are ever looked at: notes, notebooks and whatever
else lies in the folder is left alone, and so are the study's inputs.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from aanet_assets import warehouse
from aanet_assets.files import abandoned
from aanet_assets.inputs import input_files
from aanet_assets.lineage import Partition, partitions, steps
from aanet_assets.locks import nothing_being_made
from aanet_assets.manifest import rewrite_manifest
from aanet_assets.paths import NAMES
from aanet_assets.records import read_record
from aanet_assets.study import Study

REMOVED = "of partitions that are no longer in the study"
EARLIER = "left by earlier settings"
ABANDONED = "temporary files of processes that are gone"


def _pattern(name: str) -> re.Pattern:
    pattern = re.escape(name).replace(r"\*", "[^/]*")
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[0-9]+)", pattern))


_STEMS = ("all", "shard{shard}", "n{n}", "n{n}_k{k}")
_BESIDE = ("records/", "locks/")
_PATTERNS = [
    (step, _pattern(name))
    for step, names in NAMES.items()
    for name in (*names, *(f"{folder}{step}/{stem}.*" for folder in _BESIDE for stem in _STEMS))
]


def owner(name: str) -> Partition | None:
    """The partition that a file belongs to, by its name relative to the study's folder.

    None where no step of the pipeline gives such a name.
    """
    for step, pattern in _PATTERNS:
        if found := pattern.fullmatch(name):
            return Partition(step, **{key: int(value) for key, value in found.groupdict().items()})
    return None


def unneeded(study: Study) -> dict[str, list[Path]]:
    """Files that nothing needs, by what they are.

    What the record of one of the study's partitions names is needed, and so is everything of a
    partition without a record: it will be made again.
    """
    paths = study.paths
    # In this order, so that a partition that is finished meanwhile is not misjudged.
    files = paths.everything()
    records = {
        partition: read_record(study, partition)
        for step in steps(study).values()
        for partition in partitions(study, step)
    }
    inputs = {path.resolve() for field in Study.model_fields for path in input_files(study, field)}
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        name = path.relative_to(paths.root).as_posix()
        partition = owner(name)
        if partition is None or path.resolve() in inputs:
            continue
        if partition not in records:
            found[REMOVED].append(path)
            continue
        record = records[partition]
        if record is None or record.files is None or name.startswith(_BESIDE):
            continue
        if name not in record.files:
            found[EARLIER].append(path)
    found[ABANDONED] = abandoned(paths.root)
    return {kind: files for kind, files in found.items() if files}


def bytes_of(files: Iterable[Path]) -> int:
    """How much room files take; those that are gone take none."""
    return sum(path.lstat().st_size for path in files if path.exists())


def remove(study: Study, shown: Iterable[Path]) -> int:
    """Remove those of the files that still are not needed; returns the bytes that were freed.

    Raises:
        BusyError: a partition of the study is being made; nothing was removed.
    """
    with nothing_being_made(study):
        going = {path for files in unneeded(study).values() for path in files} & set(shown)
        freed = bytes_of(going)
        # Records first: without its record, a partition counts as missing, whatever is left of it.
        for path in sorted(going, key=lambda path: (study.paths.records not in path.parents, path)):
            path.unlink(missing_ok=True)
        for folder in sorted({folder for path in going for folder in path.parents}, reverse=True):
            if study.paths.root in folder.parents and not any(folder.iterdir()):
                folder.rmdir()
    if any(study.paths.tables in path.parents for path in going):
        warehouse.update(study.paths)
    rewrite_manifest(study)
    return freed
