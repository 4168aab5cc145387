"""A study on the shipped toy that runs in seconds: few documents, few steps, a reduced grid."""

from typing import Any

from aanet_assets.storage.records import contents_read, write_record
from aanet_assets.storage.step import Partition
from aanet_assets.study.settings import (
    AANetSettings,
    CacheSettings,
    ClusteringSettings,
    ControlSettings,
    CorpusSettings,
    RowSettings,
    SaeSettings,
    SelectionSettings,
    TruthSettings,
    VertexSettings,
)
from aanet_assets.study.study import Study


def small_study(**changes: Any) -> Study:
    """The small study, with some fields changed."""
    settings: dict[str, Any] = {
        "name": "small",
        "model": "data/inputs/toy/model",
        "sae": SaeSettings(directory="data/inputs/toy/sae"),
        "corpus": CorpusSettings(files="data/small/corpus/*.parquet"),
        "cache": CacheSettings(
            seq_len=17,
            documents_per_shard=1_500,
            tokens_per_shard=1_500 * 17,
            training_shards=2,
            heldout_shards=1,
            batch_chunks=256,
        ),
        "n_clusters": (6, 7),
        "ks": (2, 3, 4),
        "clustering": ClusteringSettings(method="spectral_cooccurrence"),
        "rows": RowSettings(threshold=0.3, threshold_kind="relative", max_rows=2_000),
        "aanet": AANetSettings(max_steps=150, batch_size=256),
        # Elbows of so short a training are chance: what is selected here is what is named here.
        "selection": SelectionSettings(
            b_sd=100.0,
            c_sd=100.0,
            a_sd=100.0,
            d_sd=100.0,
            manual_clusters="7:0,3",
            manual_k="7:0=3;7:3=2",
        ),
        "controls": ControlSettings(nulls=8, chance=60, replicates=2),
        "vertices": VertexSettings(samples_per_vertex=20, distance=0.5),
        "truth": TruthSettings(),
    }
    return Study(**(settings | changes))


def wide_study() -> Study:
    """One with a grid of 250 n_clusters and 7 k, for what depends on the number of partitions."""
    wide = {"n_clusters": tuple(range(10, 260)), "ks": (2, 3, 4, 5, 6, 7, 8)}
    return small_study(name="wide", selection={}, truth=None, **wide)


def pretend(study: Study, partition: Partition, content: str) -> None:
    """Record a partition as made from what is there now, without a file."""
    write_record(study, partition, content, [], contents_read(study, partition))
