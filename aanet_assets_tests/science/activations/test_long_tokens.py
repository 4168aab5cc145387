"""Tokens that `max_norm_ratio` leaves out are left out by all that reads rows of clusters."""

import numpy as np
import pandas as pd
import pytest

from aanet_assets.science.activations.build import build_shard
from aanet_assets.science.activations.by_latent import counted_norms
from aanet_assets.science.activations.shards import counted_codes
from aanet_assets.science.toy.corpus import write_corpus
from aanet_assets.science.toy.process import UNION7
from aanet_assets.steps.activations import SHARD, codes_by_latent
from aanet_assets.steps.clusters import CLUSTERS, cluster_rows, clustering
from aanet_assets.steps.evidence import (
    CLUSTER_SHAPES,
    NULL_CLUSTERS,
    cluster_shapes,
    null_clusters,
)
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Step
from aanet_assets.storage.table import Table
from aanet_assets.study.settings import (
    CacheSettings,
    ControlSettings,
    CorpusSettings,
    ExtremaSettings,
    RowSettings,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import read
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
        controls=ControlSettings(nulls=1, chance=1, replicates=1),
    )  # fmt: skip
    for shard in study.training_shards:
        build_shard(study, shard, SHARD.under(study.paths.root, shard=shard), "digest", 30.0)
        codes_by_latent.work(Run(study, codes_by_latent.at(shard=shard)))
    clustering.work(Run(study, clustering.at(n=N)))
    return study


def made(study: Study, step: Step, table: Table) -> pd.DataFrame:
    """The table after the step's work."""
    partition = step.at(n=N)
    step.work(Run(study, partition))
    return read(study, partition, table)


def test_every_reader_of_rows_agrees(study: Study) -> None:
    shards = [SHARD.under(study.paths.root, shard=shard) for shard in study.training_shards]
    whole = made(study, cluster_rows, CLUSTERS)
    assert whole["norm_limit"].isna().all()
    rows = RowSettings(**{**study.rows.model_dump(), "max_norm_ratio": 1.2, "threshold": 0.0,
                          "threshold_kind": "absolute"})  # fmt: skip
    fewer = study.model_copy(update={"rows": rows})
    clusters = made(fewer, cluster_rows, CLUSTERS)
    nulls = made(fewer, null_clusters, NULL_CLUSTERS)
    shapes = made(fewer, cluster_shapes, CLUSTER_SHAPES)

    norms, codes = np.concatenate([*map(counted_norms, shards)]), counted_codes(shards)
    limit = 1.2 * np.median(norms)
    short = codes[norms <= limit]
    assert 0.05 < (norms > limit).mean() < 0.5
    np.testing.assert_allclose(clusters["norm_limit"], limit, rtol=1e-6)
    assert clusters["average_l0"].tolist() == whole["average_l0"].tolist()
    for row in [*clusters.to_dict("records"), *nulls.to_dict("records")]:
        members = short[:, np.asarray(row["latent_indices"], dtype=int)]
        assert row["active_tokens"] == (members.sum(axis=1) > 0).sum()
    # How many latents are active together, token by token, at short ones only.
    found = shapes.drop_duplicates(["cluster_id", "null_cluster"])
    for row in found[~found["null_cluster"]].to_dict("records"):
        latents = clusters.set_index("cluster_id")["latent_indices"][row["cluster_id"]]
        own = short[:, np.asarray(latents, dtype=int)].toarray()
        own = own[own.sum(axis=1) > 0]
        expected = (own.sum(axis=1) ** 2 / (own**2).sum(axis=1)).mean()
        assert row["coactivity"] == pytest.approx(expected, rel=1e-3)
