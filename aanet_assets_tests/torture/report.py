"""The tables that the torture prints, in Markdown."""

from collections.abc import Sequence
from statistics import median

from aanet_assets_tests.torture.faults import Fault


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def faults_table(faults: Sequence[Fault]) -> str:
    """One row per asset: faults of each kind, those in the middle, what was lost, the next run."""
    kinds = sorted({fault.kind for fault in faults})
    header = ["asset", *kinds, "lost or different", "leftovers", "next run, s (median, longest)"]
    rows = []
    for step in [*dict.fromkeys(fault.partition.step for fault in faults), None]:
        own = [fault for fault in faults if step in (fault.partition.step, None)]
        counts = [_count([fault for fault in own if fault.kind == kind]) for kind in kinds]
        name = step.name if step else "**all**"
        rows.append([name, *counts, _differing(own), _leftovers(own), _seconds(own)])
    return markdown(header, rows)


def dagit_table(faults: Sequence[Fault]) -> str:
    """One row per kind of process that was killed in the middle of a backfill."""
    header = ["killed", "times", "lost or different", "leftovers", "all green after, s"]
    rows = []
    for kind in dict.fromkeys(fault.kind for fault in faults):
        own = [fault for fault in faults if fault.kind == kind]
        rows.append([kind, _count(own), _differing(own), _leftovers(own), _seconds(own)])
    return markdown(header, rows)


def _count(faults: Sequence[Fault]) -> str:
    return f"{len(faults)}, {sum(fault.in_the_middle for fault in faults)} in the middle"


def _differing(faults: Sequence[Fault]) -> int:
    return sum(bool(fault.problems) for fault in faults)


def _leftovers(faults: Sequence[Fault]) -> int:
    return sum(fault.leftovers for fault in faults)


def _seconds(faults: Sequence[Fault]) -> str:
    seconds = [fault.seconds for fault in faults]
    return f"{median(seconds):.1f}, {max(seconds):.1f}" if seconds else ""
