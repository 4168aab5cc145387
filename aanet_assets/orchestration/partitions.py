"""Dagster's view of a step's partitions: definitions and mappings."""

import dagster as dg

from aanet_assets.storage.partitions import At, ByNK, ByShard, Whole
from aanet_assets.storage.step import Part, Step
from aanet_assets.study.study import Study


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
