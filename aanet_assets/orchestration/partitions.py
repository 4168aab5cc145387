"""Dagster's view of a step's partitions: definitions and mappings."""

import dagster as dg

from aanet_assets.storage.partitions import At, ByN, ByNK, Whole
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
    """The edge from what a step reads; all but shards are mapped by Dagster itself."""
    mapping, read = None, part.step
    if read.partitions not in (Whole, ByN, ByNK):
        shards = [str(shard) for shard in part.shards(study)]
        mapping = dg.SpecificPartitionsPartitionMapping(shards)
    return dg.AssetDep(read.asset_key(study), partition_mapping=mapping)
