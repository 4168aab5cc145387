"""What every asset does around its own work: check what it reads, run, record, report."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from aanet_assets import warehouse
from aanet_assets.defs.partitions import dependency, partition_of, partitions_def
from aanet_assets.lineage import Partition, steps
from aanet_assets.locks import making
from aanet_assets.records import (
    content_digest,
    discard_record,
    read_record,
    require_upstream,
    write_record,
)
from aanet_assets.study import Study

METRICS_VERSION_TAG = "aanet/metrics_version"


@dataclass(frozen=True)
class Outcome:
    """What the work of one partition left behind."""

    files: list[Path]
    """Every file that holds the partition's content."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What Dagit shows beside it."""


Work = Callable[[Study, Partition], Outcome]


def run_step(study: Study, partition: Partition, work: Work) -> dg.MaterializeResult:
    """Do the work of one partition; the record, written last, makes it count."""
    with making(study, partition):
        return _run_step(study, partition, work)


def _run_step(study: Study, partition: Partition, work: Work) -> dg.MaterializeResult:
    require_upstream(study, partition)
    discard_record(study, partition)
    started = time.monotonic()
    outcome = work(study, partition)
    record = write_record(study, partition, content_digest(outcome.files), outcome.files)
    if any(study.paths.tables in file.parents for file in outcome.files):
        warehouse.rebuild(study.paths)
    cost = {
        "seconds": round(time.monotonic() - started, 2),
        "bytes": sum(file.stat().st_size for file in outcome.files),
        "folder": dg.MetadataValue.path(str(outcome.files[0].parent)) if outcome.files else "none",
    }
    return dg.MaterializeResult(
        metadata={**outcome.metadata, **cost},
        data_version=dg.DataVersion(record.content),
        tags=materialisation_tags(study, partition),
    )


def materialisation_tags(study: Study, partition: Partition) -> dict[str, str]:
    """The end of stage 3 says which metrics it was made from, so that the sensor can tell."""
    if partition.step != "vertex_samples":
        return {}
    metrics = read_record(study, Partition("consolidated_metrics", n=partition.n))
    return {METRICS_VERSION_TAG: metrics.content} if metrics else {}


def build_asset(study: Study, work: Work, group: str, kinds: set[str]) -> dg.AssetsDefinition:
    """The asset whose name, partitions and edges are those of the step that `work` is named for."""
    table = steps(study)
    step = table[work.__name__]

    @dg.asset(
        key=[study.name, step.name],
        # Groups of several studies share one graph: the study keeps them apart.
        group_name=f"{study.name}_{group}",
        kinds=kinds,
        description=work.__doc__,
        code_version=step.code_version,
        partitions_def=partitions_def(study, step.partitions),
        deps=[dependency(study, step, table[name]) for name in step.upstream],
    )
    def run(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        key = str(context.partition_key) if context.has_partition_key else None
        return run_step(study, partition_of(step, key), work)

    return run
