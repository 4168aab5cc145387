"""Whether who asked for a run and who works on it have the same code.

Dagster keeps with every run what its job was like where the run was asked for, with the tags of its
assets' ops; so those name the code, and a run worker of another machine compares it with its own.
"""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dagster as dg

import aanet_assets
from aanet_assets.storage.processes import host
from aanet_assets.storage.step import Partition

CODE_TAG = "aanet/code"
"""Tag of each asset's op and of what is submitted: the code of whoever asks for a run."""
_SOURCE = ("*.py", "page.*")


class OtherCodeError(RuntimeError):
    """A run was asked for by other code than this; the message is for people."""


@cache
def code() -> str:
    """The package's version and a digest of its source, as this process found them."""
    folder, digest = Path(aanet_assets.__file__).parent, hashlib.sha256()
    for file in sorted(path for name in _SOURCE for path in folder.rglob(name)):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    try:
        number = version("aanet-assets")
    except PackageNotFoundError:
        number = "not installed"
    return f"{number} (source {digest.hexdigest()[:8]})"


def require_same_code(context: dg.AssetExecutionContext, partition: Partition) -> None:
    """Refuse a run that was asked for by other code.

    Raises:
        OtherCodeError: names both.
    """
    run = context.run
    job = context.instance.get_job_snapshot(run.job_snapshot_id) if run.job_snapshot_id else None
    asked = [snap.tags.get(CODE_TAG) for snap in job.node_defs_snapshot.op_def_snaps] if job else []
    # A run that repeats another has copies of its tags, whoever asks for it.
    if run.parent_run_id is None:
        asked.append(run.tags.get(CODE_TAG))
    if others := {one for one in asked if one not in (None, code())}:
        raise OtherCodeError(
            f"{partition}: asked for by aanet-assets {' and '.join(sorted(others))}, but {host()} "
            f"has {code()}: nothing was made. Install the same on all machines and, if it was "
            "changed while Dagit ran, reload the code location in Dagit (aanet ui); then run again"
        )
