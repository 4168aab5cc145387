"""What a partition is of: everything, one shard (held out or any), one n_clusters, or one and k."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from aanet_assets.study.study import Study


@dataclass(frozen=True, order=True)
class At(ABC):
    """The numbers that tell a partition from the others of its step."""

    names: ClassVar[dict[str, str]] = {}
    """What people call each number."""

    @property
    def numbers(self) -> dict[str, int]:
        """By name."""
        return dict(vars(self))

    @property
    def key(self) -> str | None:
        """Dagster's partition key; it sorts dimensions by their names, so k comes first."""
        numbers = sorted(self.numbers.items())
        return "|".join(str(value) for _, value in numbers) or None

    @property
    def stem(self) -> str:
        """First part of the names of files that belong to this partition."""
        return "_".join(f"{name}{value}" for name, value in self.numbers.items()) or "all"

    @property
    def words(self) -> str:
        """For people; empty where there is but one partition."""
        return ", ".join(f"{self.names[name]} {value}" for name, value in self.numbers.items())

    @classmethod
    def parse(cls, key: str | None) -> Self:
        """The partition that one of Dagster's keys names."""
        names = sorted(field.name for field in fields(cls))
        values = key.split("|") if key is not None else []
        return cls(**{name: int(value) for name, value in zip(names, values, strict=True)})

    @classmethod
    @abstractmethod
    def all_of(cls, study: Study) -> Iterator[Self]:
        """Those of a study."""


@dataclass(frozen=True, order=True)
class Whole(At):
    """All there is, of a step without partitions."""

    @classmethod
    def all_of(cls, study: Study) -> Iterator[Self]:  # noqa: D102
        yield cls()


@dataclass(frozen=True, order=True)
class ByShard(At):
    """One shard of the activation cache."""

    names: ClassVar[dict[str, str]] = {"shard": "shard"}
    shard: int

    @classmethod
    def all_of(cls, study: Study) -> Iterator[Self]:  # noqa: D102
        for shard in study.shards:
            yield cls(shard)


@dataclass(frozen=True, order=True)
class ByHeldoutShard(ByShard):
    """One shard of the activation cache that trains nothing."""

    @classmethod
    def all_of(cls, study: Study) -> Iterator[Self]:  # noqa: D102
        for shard in study.heldout_shards:
            yield cls(shard)


@dataclass(frozen=True, order=True)
class ByN(At):
    """One number of clusters."""

    names: ClassVar[dict[str, str]] = {"n": "n_clusters"}
    n: int

    @classmethod
    def all_of(cls, study: Study) -> Iterator[Self]:  # noqa: D102
        for n in study.n_clusters:
            yield cls(n)


@dataclass(frozen=True, order=True)
class ByNK(At):
    """One number of clusters and one k; the row of one n_clusters comes before the next."""

    names: ClassVar[dict[str, str]] = {"n": "n_clusters", "k": "k"}
    n: int
    k: int

    @classmethod
    def all_of(cls, study: Study) -> Iterator[Self]:  # noqa: D102
        for n in study.n_clusters:
            for k in study.ks:
                yield cls(n, k)
