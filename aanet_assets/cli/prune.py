"""Files in a study's folder that the study as it is now does not need, and their removal.

Only files with the names that the pipeline gives are ever looked at: notes, notebooks and whatever
else lies in the folder is left alone, and so are the study's inputs.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path

from aanet_assets.orchestration.pipeline import all_steps, partitions_of, steps_of, tables_of
from aanet_assets.storage import warehouse
from aanet_assets.storage.bucket import Bucket
from aanet_assets.storage.files import abandoned
from aanet_assets.storage.inputs import input_files
from aanet_assets.storage.locks import nothing_being_made
from aanet_assets.storage.partitions import At, ByHeldoutShard, ByN, ByNK, ByShard, Whole
from aanet_assets.storage.records import read_record
from aanet_assets.storage.refusals import REFUSED
from aanet_assets.storage.remote import pull
from aanet_assets.storage.step import Partition, Step
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

REMOVED = "of partitions that are no longer in the study"
EARLIER = "left by earlier settings"
ABANDONED = "temporary files of processes that are gone"


_STEMS: dict[type[At], str] = {
    Whole: "all", ByShard: "shard{shard}", ByHeldoutShard: "shard{shard}", ByN: "n{n}",
    ByNK: "n{n}_k{k}",
}  # fmt: skip
_BESIDE = ("records/", "locks/")


@cache
def _patterns(step: Step) -> list[re.Pattern[str]]:
    """Names of all files of a step, its records and locks included."""
    stem = _STEMS[step.partitions]
    files = [*step.files, *(File(f"tables/{table.name}/{stem}.parquet") for table in step.tables)]
    files += [File(f"tables/{table.name}/{stem}{REFUSED}") for table in step.tables]
    files += [File(f"{folder}{step.name}/{stem}.*") for folder in _BESIDE]
    return [file.pattern([field.name for field in fields(step.partitions)]) for file in files]


def owner(name: str) -> Partition | None:
    """The partition that a file belongs to, by its name relative to the study's folder.

    None where no step of the pipeline, not only of the study, gives such a name.
    """
    for step in all_steps():
        for pattern in _patterns(step):
            if found := pattern.fullmatch(name):
                return step.at(**{key: int(value) for key, value in found.groupdict().items()})
    return None


def unneeded(study: Study) -> dict[str, dict[Path, int]]:
    """Files that nothing needs and their bytes, by what they are.

    What the record of one of the study's partitions names is needed, and so is everything of a
    partition without a record: it will be made again. Where results are kept in object storage,
    what is there counts as well as what was fetched.
    """
    paths = study.paths
    # In this order, so that a partition that is finished meanwhile is not misjudged.
    kept = pull(study).get(study.name, {})
    sizes = {paths.root / name: found.size for name, found in kept.items()}
    sizes |= {p: p.lstat().st_size for p in paths.everything() if os.path.lexists(p)}
    records = {partition: read_record(study, partition) for partition in partitions_of(study)}
    inputs = {path.resolve() for field in Study.model_fields for path in input_files(study, field)}
    found: defaultdict[str, dict[Path, int]] = defaultdict(dict)
    for path, size in sorted(sizes.items()):
        name = path.relative_to(paths.root).as_posix()
        partition = owner(name)
        if partition is None or path.resolve() in inputs:
            continue
        if partition not in records:
            found[REMOVED][path] = size
            continue
        record = records[partition]
        if record is None or record.files is None or name.startswith(_BESIDE):
            continue
        if name not in record.files:
            found[EARLIER][path] = size
    found[ABANDONED] = {path: sizes.get(path, 0) for path in abandoned(paths.root)}
    return {kind: files for kind, files in found.items() if files}


def remove(study: Study, shown: Iterable[Path]) -> int:
    """Remove those of the files that still are not needed; returns the bytes that were freed.

    Raises:
        BusyError: a partition of the study is being made; nothing was removed.
    """
    with nothing_being_made(study):
        sizes = {path: size for files in unneeded(study).values() for path, size in files.items()}
        going = sizes.keys() & set(shown)
        # Records first: without its record, a partition counts as missing, whatever is left of it.
        records = {path for path in going if study.paths.records in path.parents}
        for paths in (records, going - records):
            if study.remote is not None:
                names = [path.relative_to(study.paths.root).as_posix() for path in paths]
                Bucket(f"{study.remote}/{study.name}").remove(names)
            for path in paths:
                path.unlink(missing_ok=True)
        for folder in sorted({folder for path in going for folder in path.parents}, reverse=True):
            if study.paths.root in folder.parents and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    if any(study.paths.tables in path.parents for path in going):
        warehouse.update(study.paths, tables_of(study))
    for step in steps_of(study):
        if step.afterwards is not None:
            step.afterwards(study)
    return sum(sizes[path] for path in going)
