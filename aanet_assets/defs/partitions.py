"""Dagster's view of the partitions in `lineage.py`: definitions, mappings, keys."""

import dagster as dg

from aanet_assets.lineage import Partition, PartitionKind, Step, shards_read
from aanet_assets.study import Study


def partitions_def(study: Study, kind: PartitionKind) -> dg.PartitionsDefinition | None:
    """Partitions of a kind; None for steps without any."""
    n_clusters = dg.StaticPartitionsDefinition([str(n) for n in study.n_clusters])
    match kind:
        case "none":
            return None
        case "shard":
            shards = (*study.training_shards, *study.heldout_shards)
            return dg.StaticPartitionsDefinition([str(shard) for shard in shards])
        case "n_clusters":
            return n_clusters
        case "grid":
            ks = dg.StaticPartitionsDefinition([str(k) for k in study.ks])
            return dg.MultiPartitionsDefinition({"n_clusters": n_clusters, "k": ks})


def dependency(study: Study, step: Step, upstream: Step) -> dg.AssetDep:
    """The edge from `upstream` to `step`; all but shards are mapped by Dagster itself."""
    mapping = None
    if upstream.partitions == "shard":
        shards = [str(shard) for shard in shards_read(study, step.name)]
        mapping = dg.SpecificPartitionsPartitionMapping(shards)
    return dg.AssetDep([study.name, upstream.name], partition_mapping=mapping)


def partition_of(step: Step, key: str | None) -> Partition:
    """The partition that one of Dagster's keys names."""
    if key is None:
        return Partition(step.name)
    if step.partitions == "shard":
        return Partition(step.name, shard=int(key))
    if step.partitions == "n_clusters":
        return Partition(step.name, n=int(key))
    k, n = key.split("|")
    return Partition(step.name, n=int(n), k=int(k))
