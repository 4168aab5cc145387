"""A step of the pipeline as it is declared, and what follows from that for its partitions.

A step is declared once, with `step`, around its work. Dagster's graph, provenance, `aanet run` and
`status`, the database and the docs are made from the declarations.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aanet_assets.storage.partitions import At, ByN, ByShard, Whole
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import File, StudyPaths, data_root
from aanet_assets.study.study import Study

if TYPE_CHECKING:
    from aanet_assets.storage.run import Run

A = TypeVar("A", bound=At)
A_co = TypeVar("A_co", bound=At, covariant=True)


@dataclass(frozen=True)
class Outcome:
    """What the work of one partition left behind."""

    files: list[Path]
    """Every file that holds the partition's content."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What Dagit shows beside it."""


@dataclass(frozen=True)
class Finding:
    """The result of one check of one partition."""

    name: str
    passed: bool
    said: str
    """One sentence, without a full stop: the measured value and what is allowed."""
    blocking: bool = True
    """Whether a failure keeps the partition from counting; otherwise it is a warning."""


def always(study: Study) -> bool:
    """Of a step that every study has."""
    return True


@dataclass(eq=False)
class Step(Generic[A]):
    """One step of the pipeline, which is one asset of each study."""

    name: str
    description: str
    work: Callable[["Run[A]"], Outcome]
    partitions: type[A]
    reads: tuple["Step | Part", ...]
    """The steps whose output it opens; those that a study does not have drop out."""
    settings: tuple[str, ...]
    """Fields of the study that change its output; `group.field` for one field of a group."""
    tables: tuple[Table, ...]
    files: tuple[File, ...]
    group: str
    """Dagster's group, sorted as the stages are."""
    job: str | None
    kinds: tuple[str, ...]
    code_version: str
    """Raised when the code changes what the step writes."""
    on_device: bool
    """Whether its work is done on the study's device."""
    when: Callable[[Study], bool]
    """Which studies have it."""
    of_activations: bool
    """Whether it belongs to the activations, which several studies may share."""
    afterwards: Callable[[Study], None] | None
    """Brings up to date what is made of several partitions, once one counts or is refused."""
    check: Callable[["Run[A]"], Sequence[Finding]] | None = None
    blocking: Mapping[str, str] = field(default_factory=dict)
    """Checks without which a partition does not count: what each makes sure of, by name."""
    warning: Mapping[str, str] = field(default_factory=dict)
    """Checks that only warn."""

    def __repr__(self) -> str:
        return f"step {self.name}"

    def home(self, study: Study) -> str:
        """Name of the study in whose folder and under whose name in Dagster its output is."""
        return study.activations_name if self.of_activations else study.name

    def asset_key(self, study: Study) -> list[str]:
        """Its name in Dagster."""
        return [self.home(study), self.name]

    def paths(self, study: Study) -> StudyPaths:
        """Where its output lies."""
        return StudyPaths(data_root() / self.home(study))

    def at(self, **numbers: int) -> "Partition[A]":
        """One partition of it."""
        return Partition(self, self.partitions(**numbers))

    def of_key(self, key: str | None) -> "Partition[A]":
        """The partition that one of Dagster's keys names."""
        return Partition(self, self.partitions.parse(key))

    def all_of(self, study: Study) -> "Iterator[Partition[A]]":
        """All partitions of it in a study."""
        for at in self.partitions.all_of(study):
            yield Partition(self, at)

    def part(self, shards: Callable[[Study], range]) -> "Part":
        """Some of its shards, for a step that reads no others."""
        return Part(self, shards)

    def checks(
        self, warnings: Mapping[str, str] | None = None, **blocking: str
    ) -> Callable[[Callable[["Run[A]"], Sequence[Finding]]], None]:
        """Say what the step's checks, by name, make sure of; decorates what looks for findings."""

        def declare(check: Callable[["Run[A]"], Sequence[Finding]]) -> None:
            self.check, self.blocking, self.warning = check, blocking, warnings or {}

        return declare


@dataclass(frozen=True)
class Part:
    """Some shards of a step."""

    step: Step
    shards: Callable[[Study], range]


@dataclass(frozen=True)
class Partition(Generic[A_co]):
    """One partition of one step."""

    step: Step[Any]
    at: A_co

    @property
    def key(self) -> str | None:
        """Dagster's partition key."""
        return self.at.key

    @property
    def n(self) -> int | None:
        """Its number of clusters, where it has one."""
        return self.at.numbers.get("n")

    def __str__(self) -> str:
        words = self.at.words
        return f"{self.step.name} [{words}]" if words else self.step.name


def step(
    partitions: type[A],
    *,
    group: str,
    kinds: tuple[str, ...],
    reads: "tuple[Step | Part, ...]" = (),
    settings: tuple[str, ...] = (),
    tables: tuple[Table, ...] = (),
    files: tuple[File, ...] = (),
    job: str | None = None,
    code_version: str = "1",
    on_device: bool = False,
    when: Callable[[Study], bool] = always,
    of_activations: bool = False,
    afterwards: Callable[[Study], None] | None = None,
) -> Callable[[Callable[["Run[A]"], Outcome]], Step[A]]:
    """Declare a step around its work, whose name and docstring are the asset's."""

    def declare(work: Callable[["Run[A]"], Outcome]) -> Step[A]:
        return Step(
            work.__name__, work.__doc__ or "", work, partitions, reads, settings, tables, files,
            group, job, kinds, code_version, on_device, when, of_activations, afterwards,
        )  # fmt: skip

    return declare


_ALL = attrgetter("shards")


def parts_read(study: Study, of: Step) -> list[Part]:
    """What a step reads in this study, each with the shards of it that are read."""
    parts = [read if isinstance(read, Part) else Part(read, _ALL) for read in of.reads]
    return [part for part in parts if part.step.when(study)]


def upstream(study: Study, partition: Partition) -> list[Partition]:
    """The partitions that a partition reads."""
    found: list[Partition] = []
    for part in parts_read(study, partition.step):
        read, numbers = part.step, partition.at.numbers
        if read.partitions is Whole:
            found.append(read.at())
        elif issubclass(read.partitions, ByShard):
            found += [
                one
                for one in read.all_of(study)
                if one.at.shard in part.shards(study)
                # What is itself of one shard reads that one.
                and one.at.shard == numbers.get("shard", one.at.shard)
            ]
        elif read.partitions is ByN:
            found.append(read.at(n=numbers["n"]))
        elif "k" in numbers:
            found.append(read.at(n=numbers["n"], k=numbers["k"]))
        else:
            found += [read.at(n=numbers["n"], k=k) for k in study.ks]
    return found


def ancestors(study: Study, targets: Sequence[Partition]) -> list[Partition]:
    """Everything that the targets are made from, directly or not, but for themselves.

    In an order in which it can be made.
    """
    found: dict[Partition, None] = {}
    own = set(targets)

    def visit(partition: Partition) -> None:
        for up in upstream(study, partition):
            if up not in found:
                visit(up)
                found[up] = None

    for target in targets:
        visit(target)
    return [partition for partition in found if partition not in own]
