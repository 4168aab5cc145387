"""All steps, found in `aanet_assets/steps`, and those of one study.

Dagster has no place for what a step is to provenance, the database and the command line, so steps
are gathered here and its assets are made from them.
"""

import heapq
import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import fields as fields_of
from functools import cache
from pathlib import Path

from aanet_assets import steps
from aanet_assets.storage.partitions import At
from aanet_assets.storage.step import Part, Partition, Step
from aanet_assets.storage.table import Table
from aanet_assets.storage.warehouse import partition_columns
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

_NOWHERE = Path()


def all_steps() -> list[Step]:
    """Every step of every module in `aanet_assets/steps`, in an order in which they can run.

    Raises:
        ValueError: two steps claim one name, table or file; one reads what there is not, obeys a
            setting that no study has, has no checks, or does not tell its partitions apart. Names
            both.
    """
    return _all(tuple(steps.__path__))


@cache
def _all(folders: tuple[str, ...]) -> list[Step]:
    found: dict[Step, None] = {}
    for info in sorted(pkgutil.iter_modules(folders), key=lambda info: info.name):
        if not info.ispkg:
            module = importlib.import_module(f"{steps.__name__}.{info.name}")
            found |= dict.fromkeys(x for x in vars(module).values() if isinstance(x, Step))
    _require_sound(list(found))
    return _in_order(list(found))


def read_by(step: Step) -> list[Step]:
    """The steps that a step reads."""
    return [read.step if isinstance(read, Part) else read for read in step.reads]


def _in_order(found: Sequence[Step]) -> list[Step]:
    """Each after what it reads; groups one after the other as far as that allows."""
    waiting = {step: set(read_by(step)) for step in found}
    place = {step: i for i, step in enumerate(found)}
    ready = [(step.group, place[step], step) for step, reads in waiting.items() if not reads]
    heapq.heapify(ready)
    order = []
    while ready:
        step = heapq.heappop(ready)[2]
        order.append(step)
        for other, reads in waiting.items():
            if step in reads:
                reads.remove(step)
                if not reads:
                    heapq.heappush(ready, (other.group, place[other], other))
    if len(order) < len(found):
        circle = ", ".join(step.name for step, reads in waiting.items() if reads)
        raise ValueError(f"the steps {circle} read one another in a circle; none can be first")
    return order


def _require_sound(found: Sequence[Step]) -> None:
    fields = Study.model_fields
    for step in found:
        for read in read_by(step):
            if read not in found:
                raise ValueError(
                    f"the step {step.name} reads {read.name}, which is no step of any module in "
                    "aanet_assets/steps: move it there, or take it out of `reads`"
                )
        for setting in step.settings:
            group, _, field = setting.partition(".")
            known = group in fields and (not field or field in _fields_of(group))
            if not known:
                raise ValueError(
                    f"the step {step.name} obeys the setting {setting}, which no study has; "
                    f"settings are fields of Study or, as group.field, of one of its groups"
                )
        for table in step.tables:
            if not table.columns:
                raise ValueError(f"the {table} of the step {step.name} has no columns")
        _require_apart(step)
        if step.check is None:
            raise ValueError(
                f"the step {step.name} has no checks: declare them with @{step.name}.checks"
            )
    _require_single([(step, step.name) for step in found], "name")
    _require_single([(step, table.name) for step in found for table in step.tables], "table")
    claims = [(step, file) for step in found for file in step.files]
    for i, (step, file) in enumerate(claims):
        for other, its in claims[:i]:
            if step is not other and _overlap(file, its):
                raise ValueError(
                    f"the steps {other.name} and {step.name} both claim the file {file.template}; "
                    "a file belongs to one step"
                )


def _require_apart(step: Step) -> None:
    """Rows and files of one partition must be told from those of another."""
    numbers = [field.name for field in fields_of(step.partitions)]
    for table in step.tables:
        for column in (partition_columns(table)[number] for number in numbers):
            if column not in table.names:
                raise ValueError(
                    f"the {table} of the step {step.name} lacks the column {column}, by which rows "
                    "of one partition are told from those of another"
                )
    for file in step.files:
        for number in numbers:
            if number not in file.fields:
                raise ValueError(
                    f"the file {file.template} of the step {step.name} has no {{{number}}} in its "
                    "name, so that partitions would overwrite each other's"
                )


def _fields_of(group: str) -> set[str]:
    annotation = Study.model_fields[group].annotation
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return {name for kind in kinds for name in getattr(kind, "model_fields", ())}


def _require_single(named: list[tuple[Step, str]], what: str) -> None:
    seen: dict[str, Step] = {}
    for step, name in named:
        other = seen.setdefault(name, step)
        if other is not step:
            both = " and ".join(f"{each.name} of {each.work.__module__}" for each in (other, step))
            raise ValueError(f"two steps have the {what} {name}: {both}")


def _overlap(one: File, other: File) -> bool:
    """Whether a name can be of both; tried with a name of each."""
    names = [
        file.under(root, **dict.fromkeys(file.fields, 1)).as_posix().replace("*", "x")
        for file in (one, other)
        for root in [_NOWHERE]
    ]
    return bool(other.pattern([]).fullmatch(names[0]) or one.pattern([]).fullmatch(names[1]))


def steps_of(study: Study) -> list[Step]:
    """The steps that a study has, in an order in which they can run; without clusters, a few."""
    there = all_steps() if study.n_clusters else [s for s in all_steps() if s.of_activations]
    return [step for step in there if step.when(study)]


def step_named(study: Study, name: str) -> Step:
    """One of them.

    Raises:
        ValueError: the study has none of this name; says which it has.
    """
    by_name = {step.name: step for step in steps_of(study)}
    if name not in by_name:
        raise ValueError(f"study {study.name!r} has no asset {name!r}; it has {', '.join(by_name)}")
    return by_name[name]


def tables_of(study: Study) -> list[Table]:
    """The tables of a study's database; those of shared activations are in their own."""
    own = [step for step in steps_of(study) if step.home(study) == study.name]
    return [table for step in own for table in step.tables]


def partitions_of(study: Study) -> Iterator[Partition[At]]:
    """Every partition of every step of a study, in an order in which they can be made."""
    for step in steps_of(study):
        yield from step.all_of(study)
