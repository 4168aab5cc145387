"""Dagster's view of a step's partitions: definitions and mappings."""

import dagster as dg

from aanet_assets.storage.partitions import At, ByNK, ByShard, Whole
from aanet_assets.storage.step import Part, Partition, Step
from aanet_assets.study.study import Study

_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def partitions_def(study: Study, kind: type[At]) -> dg.PartitionsDefinition | None:
    """Partitions of a kind; None for steps without any."""
    if kind is Whole:
        return None
    if kind is ByNK:
        numbers = {"n_clusters": study.n_clusters, "k": study.ks}
        return dg.MultiPartitionsDefinition(
            {
                name: dg.StaticPartitionsDefinition([str(value) for value in values])
                for name, values in numbers.items()
            }
        )
    return dg.StaticPartitionsDefinition([str(at.key) for at in kind.all_of(study)])


def dependency(study: Study, step: Step, part: Part) -> dg.AssetDep:
    """The edge from what a step reads; all but shards for what has none are mapped by Dagster."""
    mapping, read = None, part.step
    if issubclass(read.partitions, ByShard) and not issubclass(step.partitions, ByShard):
        found = read.partitions.all_of(study)
        shards = [str(at.key) for at in found if at.shard in part.shards(study)]
        mapping = dg.SpecificPartitionsPartitionMapping(shards)
    return dg.AssetDep(read.asset_key(study), partition_mapping=mapping)


def backfill_policy(study: Study, kind: type[At]) -> dg.BackfillPolicy | None:
    """How many partitions a run of a backfill makes; one, unless the study puts shards together."""
    together = study.cache.shards_per_run if issubclass(kind, ByShard) else 1
    return dg.BackfillPolicy.multi_run(together) if together > 1 else None


def partitions_of_run(study: Study, step: Step, run: dg.DagsterRun) -> list[Partition]:
    """What a run that was asked for makes of a step: one partition, or a range of them."""
    if _FIRST not in run.tags:
        return [step.of_key(run.tags.get("dagster/partition"))]
    found = partitions_def(study, step.partitions)
    keys = dg.PartitionKeyRange(run.tags[_FIRST], run.tags[_LAST])
    return [step.of_key(key) for key in found.get_partition_keys_in_range(keys)] if found else []
