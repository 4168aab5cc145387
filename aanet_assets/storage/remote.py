"""Studies whose results are kept in object storage; their folders under `data/` are a cache of it.

A bucket has the names of the folder: files, tables, records. All work is done on local files.
Before anything is judged, the records are brought in line with the bucket's. What a partition reads
is fetched by its record; what it wrote is uploaded, the record last.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aanet_assets.storage.bucket import Bucket, DamagedError, Listed, RemoteError
from aanet_assets.storage.file_locks import locked
from aanet_assets.storage.files import write_json, write_text
from aanet_assets.storage.fingerprints import content_digest, hash_of
from aanet_assets.storage.inputs import is_input
from aanet_assets.storage.step import Step
from aanet_assets.study.layout import StudyPaths, data_root
from aanet_assets.study.study import Study

Files = Mapping[str, int | None]
"""Of a partition, by its record: names relative to the study's folder, and sizes in bytes."""
_MARK = ".remote.json"
"""In a study's folder: which bucket it is a cache of, and the version of each record in it."""


def bucket_of(study: Study, step: Step) -> Bucket | None:
    """Where the results of a step are kept; None where that is its folder."""
    return None if study.remote is None else Bucket(f"{study.remote}/{step.home(study)}")


def pull(study: Study) -> dict[str, dict[str, Listed]]:
    """Bring a study's records, and inputs that it made itself, in line with the bucket.

    Returns:
        All objects, by the name of the study in whose folder they belong and by their own; none of
        a study that is kept in its folder.

    Raises:
        RemoteError: the bucket cannot be used, or the folder is no cache of it.
    """
    found = {}
    for home in dict.fromkeys((study.activations_name, study.name)):
        paths = StudyPaths(data_root() / home)
        known = _known(study, paths)
        if study.remote is not None:
            bucket = Bucket(f"{study.remote}/{home}")
            with changing_records(paths):
                found[home] = bucket.list()
                _take_over(paths, bucket, found[home], known)
            _fetch_inputs(study, paths, bucket)
    return found


def _known(study: Study, paths: StudyPaths) -> dict[str, str]:
    """The versions of a folder's records in the bucket.

    Raises:
        RemoteError: the folder is not a cache of the bucket that the study names.
    """
    try:
        mark = json.loads((paths.root / _MARK).read_bytes())
    except FileNotFoundError:
        mark = {"url": None, "records": {}}
    expected = None if study.remote is None else f"{study.remote}/{paths.root.name}"
    if mark["url"] == expected:
        return mark["records"]
    if mark["url"] is None and not any(paths.records.glob("*/*.json")):
        return {}
    holds = (
        "holds results that are nowhere else"
        if mark["url"] is None
        else f"is a cache of {mark['url']}"
    )
    copy = f"copy it to {expected} first, as with `aws s3 sync`, and then " if expected else ""
    raise RemoteError(
        f"{paths.root} {holds}, and the study's remote is {study.remote}: correct the remote, or "
        f"{copy}move the folder away"
    )


def _take_over(
    paths: StudyPaths, bucket: Bucket, there: Mapping[str, Listed], known: Mapping[str, str]
) -> None:
    """Make the local records, and notes on refused partitions, those of the bucket."""
    records = {name: at.etag for name, at in there.items() if name.startswith("records/")}
    local = {
        path.relative_to(paths.root).as_posix()
        for ending in ("json", "refused")
        for path in paths.records.glob(f"*/[!.]*.{ending}")
    }
    new = {name for name, tag in records.items() if name not in local or known.get(name) != tag}
    contents = bucket.read(new)
    for name in local - (records.keys() - new) - contents.keys():
        _drop_tables(paths, (paths.root / name).read_bytes())
        (paths.root / name).unlink()
    for name, content in contents.items():
        before = (paths.root / name).read_bytes() if name in local else b"{}"
        if content != before:
            _drop_tables(paths, before)
            # A killed run may have left others of these names.
            _drop_tables(paths, content)
            write_text(paths.root / name, content.decode())
    versions = {name: tag for name, tag in records.items() if name not in new or name in contents}
    if versions != known or not (paths.root / _MARK).exists():
        write_json(paths.root / _MARK, {"url": bucket.url, "records": versions})


def _drop_tables(paths: StudyPaths, record: bytes) -> None:
    """Keep rows of a partition that is another one, or gone, out of the database."""
    for name in _files_in(record):
        if paths.tables in (path := paths.root / name).parents:
            path.unlink(missing_ok=True)


def _files_in(record: bytes) -> Files:
    """The files that a record, or a note on a refusal, names; none in a damaged one."""
    try:
        files = json.loads(record)["files"]
    except (ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) else dict.fromkeys(files or ())


def _fetch_inputs(study: Study, paths: StudyPaths, bucket: Bucket) -> None:
    """Fetch what the study made for itself to read, as a corpus: its contents are judged."""
    # What makes inputs has no partitions.
    for path in paths.records.glob("*/all.json"):
        files = _files_in(record := path.read_bytes())
        if any(is_input(study, paths.root / name) for name in files):
            # Whoever reads it is told; until then, all else can be looked at.
            with suppress(DamagedError):
                fetch(bucket, paths, [(files, json.loads(record)["content"])])


@contextmanager
def changing_records(paths: StudyPaths) -> Iterator[None]:
    """Change a record here and in the bucket while no other process here compares them."""
    paths.locks.mkdir(parents=True, exist_ok=True)
    with locked(paths.locks / "records.lock"):
        yield


def fetch(bucket: Bucket, paths: StudyPaths, partitions: Sequence[tuple[Files, str]]) -> None:
    """Fetch what of some partitions is not here, or is of another content.

    Args:
        bucket: where they are kept.
        paths: where they are wanted.
        partitions: files of each, and the digest of their contents.

    Raises:
        DamagedError: what is kept is not what was recorded.
        RemoteError: it cannot be fetched.
    """

    def others() -> list[Files]:
        # Most of what is here has been looked at before.
        return [
            files
            for files, content in partitions
            if content_digest((paths.root / name for name in files), hash_of) != content
        ]

    bucket.download(paths.root, missing(paths, [files for files, _ in partitions]))
    for files in others():
        bucket.download(paths.root, {name: size or 0 for name, size in files.items()})
    for files in others():
        raise DamagedError(
            f"{', '.join(list(files)[:3])} of {bucket.url} have another content than was recorded: "
            f"aanet doctor {paths.root.name} makes their partition count as missing"
        )


def missing(paths: StudyPaths, partitions: Iterable[Files]) -> dict[str, int]:
    """Which files are not here, or not of the size that they have; with those sizes."""
    return {
        name: size or 0
        for files in partitions
        for name, size in files.items()
        if _size(paths.root / name) != size
    }


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
