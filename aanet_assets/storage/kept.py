"""What the next partition of a step may use as well: to load a model can take longer than its work.

It is let go of as soon as this process begins a partition of another step. Of several processes
that share the work none keeps anything: the next partition may be another's, and so the GPU.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from aanet_assets.storage.obeyed import settings_values
from aanet_assets.storage.partitions import Whole
from aanet_assets.storage.records import contents_read
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Step, upstream
from aanet_assets.study.study import Study

Loaded = TypeVar("Loaded")

_last: tuple[tuple[Any, ...], Any] | None = None
"""In this process: what it was loaded from, and what was loaded."""


def kept(run: Run, load: Callable[[Study], Loaded]) -> Loaded:
    """What `load` makes of the run's study, or made of it for the step's last partition.

    Settings, contents of the files that they name, and whatever else all partitions of the step
    read have to be the same for that; what is read by this partition alone may be another's.
    """
    global _last
    step, study = run.partition.step, run.study
    whole = {str(up) for up in upstream(study, run.partition) if up.step.partitions is Whole}
    contents = {
        up: found for up, found in contents_read(study, run.partition).items() if up in whole
    }
    source = step, load, study, settings_values(study, step, run.partition.n), contents
    if _last is None or _last[0] != source:
        # First of all: memory may not be enough for both.
        _last = None
        _last = source, load(study)
    return _last[1]


def let_go(step: Step | None = None) -> None:
    """Let go of what was loaded; where a step is given, unless its partitions may use it."""
    global _last
    if _last is not None and _last[0][0] is not step:
        _last = None
