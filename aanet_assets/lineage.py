"""The pipeline as a table: every step, its partitions, what it reads, and which settings it obeys.

Dagster's graph, the provenance records, `aanet run` and `aanet status` are all made from this
table, so they cannot disagree.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from aanet_assets.inputs import input_hashes
from aanet_assets.settings import AANetSettings
from aanet_assets.study import Study

PartitionKind = Literal["none", "shard", "n_clusters", "grid"]


@dataclass(frozen=True)
class Step:
    """One asset of the pipeline."""

    name: str
    partitions: PartitionKind
    upstream: tuple[str, ...]
    """Names of the steps whose output it reads."""
    settings: tuple[str, ...]
    """Fields of the study that change its output; `group.field` for one field of a group."""
    code_version: str = "1"
    """Raised when the code changes what the step writes."""
    on_device: bool = False
    """Whether its work is done on the study's device."""


class Partition(NamedTuple):
    """One partition of one step; the fields a kind of partition does not have are None."""

    step: str
    shard: int | None = None
    n: int | None = None
    k: int | None = None

    @property
    def key(self) -> str | None:
        """Dagster's partition key; the dimensions of the grid sort by name, so k comes first."""
        if self.shard is not None:
            return str(self.shard)
        if self.k is not None:
            return f"{self.k}|{self.n}"
        return None if self.n is None else str(self.n)

    @property
    def stem(self) -> str:
        """First part of the names of files that belong to this partition of its step."""
        numbers = {"shard": self.shard, "n": self.n, "k": self.k}
        named = (f"{name}{value}" for name, value in numbers.items() if value is not None)
        return "_".join(named) or "all"

    def __str__(self) -> str:
        fields = {"shard": self.shard, "n_clusters": self.n, "k": self.k}
        named = ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)
        return f"{self.step} [{named}]" if named else self.step


# The number of shards is left out of the cache's own settings: more shards leave the old ones good.
_CACHE = (
    "model",
    "revision",
    "dtype",
    "sae",
    "corpus",
    "cache.seq_len",
    "cache.prepend_bos",
    "cache.max_doc_tokens",
    "cache.documents_per_shard",
    "cache.tokens_per_shard",
    "cache.activity_threshold",
)
_FIT = (
    "model",
    "revision",
    "dtype",
    "sae",
    "corpus",
    "cache.seq_len",
    "cache.prepend_bos",
    "cache.max_doc_tokens",
    "fit",
)

# Clusterings can be equal where these differ: labels from a file know no shards and no ranks.
_ROWS = ("rows", "extrema", "cache.training_shards")
# What is exported is a matter of its own, and trains nothing.
_TRAINING = tuple(f"aanet.{name}" for name in AANetSettings.model_fields if name != "export_pt")
# An AANet of more archetypes than the rows have extrema finds its own as the rows did.
_STAGE1_TRAINING = (*_TRAINING, "extrema", "rows.seed")

_STEPS = (
    Step("sae_fit", "none", (), _FIT, code_version="3", on_device=True),
    Step("activation_cache", "shard", ("sae_fit",), _CACHE, code_version="4", on_device=True),
    Step(
        "clustering",
        "n_clusters",
        ("activation_cache",),
        ("sae", "clustering", "cache.training_shards"),
        code_version="2",
    ),
    Step(
        "cluster_rows",
        "n_clusters",
        ("activation_cache", "clustering"),
        (*_ROWS, "clustering.variance_share", "clustering.gap_ratio"),
        code_version="4",
    ),
    Step(
        "aanet_models",
        "grid",
        ("clustering", "cluster_rows"),
        _STAGE1_TRAINING,
        code_version="2",
        on_device=True,
    ),
    Step("aanet_exports", "grid", ("clustering", "aanet_models"), ("aanet.export_pt",)),
    Step("aanet_metrics", "grid", ("aanet_models",), ()),
    Step(
        "consolidated_metrics",
        "n_clusters",
        ("cluster_rows", "aanet_models", "aanet_metrics"),
        ("ks",),
        code_version="2",
    ),
    Step(
        "analysis_plots",
        "n_clusters",
        ("consolidated_metrics",),
        ("selection",),
        code_version="2",
    ),
    Step(
        "null_clusters",
        "n_clusters",
        ("activation_cache", "clustering"),
        (*_ROWS, "trust.nulls", "trust.seed"),
        code_version="2",
    ),
    Step(
        "cluster_shapes",
        "n_clusters",
        ("activation_cache", "clustering", "cluster_rows", "null_clusters"),
        ("ks", "rows", "trust.chance", "trust.seed"),
        code_version="2",
    ),
    Step(
        "replicates",
        "grid",
        ("clustering", "cluster_rows", "aanet_models", "null_clusters"),
        (*_STAGE1_TRAINING, "trust.replicates"),
        code_version="2",
        on_device=True,
    ),
    Step(
        "evidence",
        "n_clusters",
        ("consolidated_metrics", "cluster_shapes", "replicates"),
        ("trust.replicates",),
        code_version="3",
    ),
    Step(
        "reproducibility",
        "n_clusters",
        ("clustering", "cluster_rows", "replicates", "evidence"),
        ("ks", "selection", "trust"),
        code_version="2",
    ),
    Step(
        "selected_clusters",
        "n_clusters",
        ("consolidated_metrics", "evidence"),
        ("selection", "trust.max_q", "trust.min_fit"),
        code_version="3",
    ),
    Step(
        "refit_models",
        "n_clusters",
        (
            "clustering",
            "cluster_rows",
            "aanet_models",
            "consolidated_metrics",
            "selected_clusters",
        ),
        ("refit", *_TRAINING),
        code_version="3",
        on_device=True,
    ),
    Step(
        "vertex_samples",
        "n_clusters",
        ("activation_cache", "cluster_rows", "refit_models"),
        ("model", "revision", "vertices", "cache.training_shards", "cache.heldout_shards"),
        code_version="3",
        on_device=True,
    ),
    Step(
        "review_page",
        "n_clusters",
        (
            "clustering",
            "cluster_rows",
            "aanet_models",
            "consolidated_metrics",
            "cluster_shapes",
            "replicates",
            "evidence",
            "selected_clusters",
            "refit_models",
            "vertex_samples",
        ),
        ("ks", "selection", "trust"),
        code_version="3",
    ),
)
_TRUTH = (
    Step("corpus", "none", (), ("truth.process", "truth.seed", "cache.documents_per_shard",
                                "cache.training_shards", "cache.heldout_shards", "cache.seq_len")),
    Step(
        "recovery",
        "n_clusters",
        ("activation_cache", "aanet_models", "consolidated_metrics"),
        ("truth.process",),
    ),
)  # fmt: skip

_LOCAL = (
    Step("language_model", "none", (), ("local.package",)),
    Step("prose", "none", (), ("local.characters", "local.seed")),
    Step("sae", "none", ("language_model", "prose"),
         ("local", "dtype", "cache.seq_len", "cache.prepend_bos", "cache.max_doc_tokens"),
         on_device=True),
)  # fmt: skip


REPLICATED = ("replicates", "reproducibility")
"""Steps that only studies with replicates have."""


def steps(study: Study) -> dict[str, Step]:
    """The study's steps by name, in an order in which they can run."""
    if study.truth is not None:
        corpus, recovery = _TRUTH
        first, last = (corpus,), (recovery,)
    else:
        first, last = () if study.local is None else _LOCAL, ()
    made_here = tuple(step.name for step in first)
    fit, cache, *rest = _STEPS
    if study.trust.replicates == 1:
        rest = [
            replace(step, upstream=tuple(name for name in step.upstream if name != "replicates"))
            for step in rest
            if step.name not in REPLICATED
        ]
    fit = replace(fit, upstream=made_here)
    cache = replace(cache, upstream=(*made_here, *cache.upstream))
    return {step.name: step for step in (*first, fit, cache, *rest, *last)}


def partitions(study: Study, step: Step) -> Iterator[Partition]:
    """All partitions of a step; on the grid, the row of one n_clusters before the next."""
    match step.partitions:
        case "none":
            yield Partition(step.name)
        case "shard":
            for shard in (*study.training_shards, *study.heldout_shards):
                yield Partition(step.name, shard=shard)
        case "n_clusters":
            for n in study.n_clusters:
                yield Partition(step.name, n=n)
        case "grid":
            for n in study.n_clusters:
                for k in study.ks:
                    yield Partition(step.name, n=n, k=k)


def shards_read(study: Study, step: str) -> range:
    """The shards of the activation cache that a step reads."""
    if step in ("vertex_samples", "recovery"):
        return range(study.training_shards.start, study.heldout_shards.stop)
    return study.training_shards


def upstream(study: Study, partition: Partition) -> list[Partition]:
    """The partitions a partition reads."""
    table = steps(study)
    found = []
    for name in table[partition.step].upstream:
        match table[name].partitions:
            case "none":
                found.append(Partition(name))
            case "shard":
                found += [Partition(name, shard=s) for s in shards_read(study, partition.step)]
            case "n_clusters":
                found.append(Partition(name, n=partition.n))
            case "grid" if partition.k is not None:
                found.append(Partition(name, n=partition.n, k=partition.k))
            case "grid":
                found += [Partition(name, n=partition.n, k=k) for k in study.ks]
    return found


def ancestors(study: Study, targets: Sequence[Partition]) -> list[Partition]:
    """Everything that the targets are made from, directly or not, but for themselves.

    In an order in which it can be made.
    """
    found: dict[Partition, None] = {}
    ahead = list(targets)
    while ahead:
        for up in upstream(study, ahead.pop()):
            if up not in found and up not in targets:
                found[up] = None
                ahead.append(up)
    order = list(steps(study))
    return sorted(found, key=lambda partition: order.index(partition.step))


CODE = "code"
FILES = " files"
"""Ending of the name under which the contents of a setting's input files stand."""


def settings_values(study: Study, step: Step, n: int | None = None) -> dict[str, Any]:
    """What a step obeys, by name: settings, contents of the files they name, its code's version.

    Settings of a whole group stand one by one, as `rows.threshold` does. Of the files that belong
    to one n_clusters each, as labels do, only those of `n` count where it is given.
    """
    of_n = study if n is None else study.model_copy(update={"n_clusters": (n,)})
    values: dict[str, Any] = {"name": study.name, CODE: step.code_version}
    dump = study.model_dump(mode="json")
    for name in step.settings:
        group, _, field = name.partition(".")
        value = dump[group][field] if field else dump[group]
        if not field and isinstance(value, dict):
            values |= {f"{group}.{own}": one for own, one in value.items()}
        else:
            values[name] = value
        if hashes := input_hashes(of_n, name):
            values[f"{name}{FILES}"] = hashes
    return values


def digest_of(values: Mapping[str, Any]) -> str:
    """Short hash of what `settings_values` found."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def settings_digest(study: Study, step: Step) -> str:
    """Short hash of the settings that a step obeys, of the files they name, of its code version."""
    return digest_of(settings_values(study, step))
