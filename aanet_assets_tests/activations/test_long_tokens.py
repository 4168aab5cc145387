"""Tokens that `max_norm_ratio` leaves out are left out by all that reads rows of clusters."""

import numpy as np
import pandas as pd
import pytest
from aanet_assets.steps.shapes import cluster_shapes, null_clusters
from aanet_assets.steps.stage1_latents import cluster_rows, clustering

from aanet_assets.activations.build import build_shard
from aanet_assets.activations.shards import counted_codes, counted_norms
from aanet_assets.steps.activations import SHARD
from aanet_assets.steps.clusters import cluster_rows, clustering
from aanet_assets.storage.step import Partition
from aanet_assets.storage.warehouse import read_table
from aanet_assets.study.layout import StudyPaths
from aanet_assets.study.settings import (
    CacheSettings,
    CorpusSettings,
    ExtremaSettings,
    RowSettings,
    TrustSettings,
)
from aanet_assets.study.study import Study
from aanet_assets.toy.corpus import write_corpus
from aanet_assets.toy.process import UNION7
from aanet_assets_tests.small import small_study

N = 6


@pytest.fixture(scope="module")
def study(home, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Shards and one clustering of a study that keeps all tokens."""
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"), UNION7, 120, 16, seed=5)
    study = small_study(
        name="long_tokens",
        truth=None,
        selection={},
        corpus=CorpusSettings(files=str(corpus)),
        cache=CacheSettings(
            seq_len=17, documents_per_shard=60, tokens_per_shard=60 * 17, batch_chunks=60,
            training_shards=2, heldout_shards=1,
        ),
        n_clusters=(N,),
        ks=(2, 3),
        extrema=ExtremaSettings(max_rows=100),
        trust=TrustSettings(nulls=1, chance=1, replicates=1),
    )  # fmt: skip
    for shard in study.training_shards:
        build_shard(study, shard, SHARD.under(study.paths.root, shard=shard), "digest", 30.0)
    clustering(study, clustering.at(n=N))
    return study


def tables(study: Study) -> dict[str, pd.DataFrame]:
    for step in (cluster_rows, null_clusters, cluster_shapes):
        step(study, Partition(step.__name__, n=N))
    paths: StudyPaths = study.paths
    steps = {"clusters": "cluster_rows", "null_clusters": "null_clusters",
             "cluster_shapes": "cluster_shapes"}  # fmt: skip
    return {table: read_table(paths, table, Partition(step, n=N)) for table, step in steps.items()}


def test_every_reader_of_rows_agrees(study: Study) -> None:
    shards = [SHARD.under(study.paths.root, shard=shard) for shard in study.training_shards]
    cluster_rows(study, cluster_rows.at(n=N))
    whole = read_table(study.paths, "clusters", cluster_rows.at(n=N))
    assert whole["norm_limit"].isna().all()
    rows = RowSettings(**{**study.rows.model_dump(), "max_norm_ratio": 1.2, "threshold": 0.0,
                          "threshold_kind": "absolute"})  # fmt: skip
    fewer = tables(study.model_copy(update={"rows": rows}))

    norms, codes = counted_norms(shards), counted_codes(shards)
    limit = 1.2 * np.median(norms)
    short = codes[norms <= limit]
    assert 0.05 < (norms > limit).mean() < 0.5
    np.testing.assert_allclose(fewer["clusters"]["norm_limit"], limit, rtol=1e-6)
    assert fewer["clusters"]["average_l0"].tolist() == whole["average_l0"].tolist()
    for table in ("clusters", "null_clusters"):
        for row in fewer[table].to_dict("records"):
            members = short[:, np.asarray(row["latent_indices"], dtype=int)]
            assert row["active_tokens"] == (members.sum(axis=1) > 0).sum()
    # How many latents are active together, token by token, at short ones only.
    found = fewer["cluster_shapes"].drop_duplicates(["cluster_id", "is_null"])
    for row in found[~found["is_null"]].to_dict("records"):
        latents = fewer["clusters"].set_index("cluster_id")["latent_indices"][row["cluster_id"]]
        own = short[:, np.asarray(latents, dtype=int)].toarray()
        own = own[own.sum(axis=1) > 0]
        expected = (own.sum(axis=1) ** 2 / (own**2).sum(axis=1)).mean()
        assert row["coactivity"] == pytest.approx(expected, rel=1e-3)
