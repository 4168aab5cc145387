"""What a fault is, and what every kind of fault has in common: something to make, and the check."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.storage.step import Partition
from aanet_assets_tests.small import small_study
from aanet_assets_tests.torture.compare import State, differences, leftovers, state
from aanet_assets_tests.torture.home import STUDY, Aanet, Home, aanet


class Fault(NamedTuple):
    """One fault that was injected, and what came of it."""

    partition: Partition
    kind: str
    in_the_middle: bool
    """Whether it struck in the work: the partition's record was absent afterwards."""
    problems: list[str]
    """What differs from an undisturbed run, and whatever else is not as promised."""
    leftovers: int
    """Temporary files of the process that died, which `aanet doctor` then removed."""
    seconds: float
    """How long the run took that went on afterwards."""


_OTHERS = "made with other settings"


def all_partitions() -> list[Partition]:
    """All partitions of the small study, asset by asset."""
    return list(partitions_of(small_study()))


def unmake(home: Home, partition: Partition, keep_files: bool) -> None:
    """Give a partition something to do: its record is stale and, unless they are kept, files gone.

    Stale, not missing: a run that removes the record shows that it has begun the work.
    """
    record = home.record(partition)
    content = json.loads(record.read_text())
    if not keep_files:
        for path in home.files(partition):
            path.unlink()
        home.update_database()
    record.write_text(json.dumps(content | {"settings": _OTHERS}))


def arguments(partition: Partition) -> list[str]:
    """What makes `aanet run` go no further than this partition."""
    chosen = ["run", STUDY, "--until", partition.step.name]
    for option, name in (("--n-clusters", "n"), ("--k", "k")):
        if name in partition.at.numbers:
            chosen += [option, str(partition.at.numbers[name])]
    return chosen


def wait_for_work(home: Home, process: Aanet, partition: Partition) -> None:
    """Wait until a run has begun the work on an unmade partition.

    Raises:
        RuntimeError: the run ended and never did.
    """
    while not has_begun(home, partition):
        if not process.is_running:
            raise RuntimeError(f"the run never came to {partition}:\n{process.end().output}")


def has_begun(home: Home, partition: Partition) -> bool:
    """Whether the record of an unmade partition was removed, which is where the work begins."""
    try:
        return json.loads(home.record(partition).read_text())["settings"] != _OTHERS
    except FileNotFoundError:
        return True


def go_on(home: Home, unmade: Sequence[Partition]) -> tuple[list[str], float]:
    """`aanet run` to the end, which makes what is not there yet and nothing else; and seconds."""
    todo = sum(not _is_there(home, partition) for partition in unmade)
    ended = aanet(home, "run", STUDY)
    if ended.code:
        return [f"the next run failed: {ended.output[-2000:]}"], ended.seconds
    made = sum(map(int, re.findall(r"(\d+) made", ended.output)))
    problems = [] if made == todo else [f"{todo} partitions were not there, {made} were made"]
    return problems, ended.seconds


def _is_there(home: Home, partition: Partition) -> bool:
    return home.record(partition).exists() and has_begun(home, partition)


def compare(home: Home, expected: State) -> tuple[list[str], int]:
    """What differs from an undisturbed run; temporary files, which the doctor must remove."""
    problems = differences(expected, state(home.paths))
    left = len(leftovers(home.paths))
    if left:
        doctor = aanet(home, "doctor", STUDY)
        if still := leftovers(home.paths):
            names = ", ".join(path.name for path in still)
            problems.append(f"the doctor did not remove {names}: {doctor.output}")
    return problems, left


def has_tables(home: Home, partition: Partition) -> bool:
    """Whether the work on a partition changes the database."""
    return any(home.paths.tables in path.parents for path in home.files(partition))
