"""Cluster-major rows against dense matrix products."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.science.activations.by_latent import CodesByLatent, write_by_latent
from aanet_assets.science.activations.rows import (
    Cluster,
    active_rows,
    activity_limit,
    draw,
    gather_rows,
    load_cluster,
    load_labels,
    load_rows,
    save_clusters,
    save_rows,
    without_long_tokens_of,
)
from aanet_assets.science.activations.shards import read_shard
from aanet_assets.science.clustering.ranks import orthonormal, span_basis
from aanet_assets.study.settings import ExtremaSettings, RowSettings
from aanet_assets_tests.shards import write_shard


def planted(seed: int = 0, tokens: int = 400, latents: int = 12, d_model: int = 10):
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((tokens, latents)) < 0.2, rng.random((tokens, latents)), 0)
    codes = codes.astype(np.float32)
    decoder = rng.standard_normal((latents, d_model)).astype(np.float32)
    members = np.array([1, 4, 7])
    columns = span_basis(decoder[members])
    coordinates = decoder[members] @ orthonormal(columns)
    return codes, decoder, Cluster(3, members, columns, coordinates)


def in_parts(codes: np.ndarray, cluster: Cluster) -> list[sp.csr_matrix]:
    """Its latents' codes, as if of three shards."""
    return [sp.csr_matrix(part) for part in np.array_split(codes[:, cluster.latents], 3)]


@given(seed=st.integers(0, 100), limit=st.floats(0, 1.5))
def test_active_rows_are_the_dense_products(seed: int, limit: float) -> None:
    codes, decoder, cluster = planted(seed)
    own = codes[:, cluster.latents]
    tokens, rows = active_rows(sp.csr_matrix(own), cluster, limit)
    expected = np.flatnonzero(own.sum(axis=1) > limit)
    np.testing.assert_array_equal(tokens, expected)
    full_width = own[expected] @ decoder[cluster.latents]
    np.testing.assert_allclose(rows @ cluster.basis.T, full_width, atol=2e-3)


def test_a_relative_limit_is_a_share_of_the_95th_percentile_of_positive_sums() -> None:
    sums = np.concatenate([np.zeros(1000), np.arange(1, 101)]).astype(np.float32)
    relative = RowSettings(threshold=0.3, threshold_kind="relative")
    assert activity_limit(sums, relative) == pytest.approx(
        0.3 * np.percentile(np.arange(1, 101), 95)
    )
    assert activity_limit(np.zeros(5, dtype=np.float32), relative) == 0
    assert activity_limit(sums, RowSettings(threshold=0.2)) == 0.2


def test_gathered_rows_split_what_is_active_without_overlap() -> None:
    codes, decoder, cluster = planted()
    settings = RowSettings(threshold=0.1, heldout_share=0.25)
    found = gather_rows(in_parts(codes, cluster), cluster, settings, ExtremaSettings(), seed=5)
    own = codes[:, cluster.latents]
    expected = (own[own.sum(axis=1) > 0.1] @ decoder[cluster.latents]) @ cluster.basis
    assert found.active_tokens == len(expected)
    assert len(found.rows.heldout) == len(expected) // 4
    together = np.concatenate([found.rows.train, found.rows.heldout])
    order = np.lexsort(together.T), np.lexsort(expected.T)
    np.testing.assert_allclose(together[order[0]], expected[order[1]], atol=1e-5)
    assert found.rows.extrema.shape == (8, 3)
    assert found.extrema_problem == ""
    again = gather_rows(in_parts(codes, cluster), cluster, settings, ExtremaSettings(), seed=5)
    np.testing.assert_array_equal(found.rows.train, again.rows.train)
    other = gather_rows(in_parts(codes, cluster), cluster, settings, ExtremaSettings(), seed=6)
    assert not np.array_equal(found.rows.train, other.rows.train)


def test_tokens_at_which_all_latents_are_off_are_rows_where_the_settings_say_so() -> None:
    codes, decoder, cluster = planted()
    settings = RowSettings(
        threshold=0.3, threshold_kind="relative", heldout_share=0, all_off=True, max_rows=10_000
    )
    found = gather_rows(in_parts(codes, cluster), cluster, settings, ExtremaSettings(), seed=5)
    own = codes[:, cluster.latents]
    assert (own.sum(axis=1) == 0).sum() > 100
    expected = (own @ decoder[cluster.latents]) @ cluster.basis
    assert (found.active_tokens, found.activity_limit) == (len(codes), -1)
    order = np.lexsort(found.rows.train.T.round(3)), np.lexsort(expected.T.round(3))
    np.testing.assert_allclose(found.rows.train[order[0]], expected[order[1]], atol=2e-3)
    few = settings.model_copy(update={"max_rows": 50})
    drawn = gather_rows(in_parts(codes, cluster), cluster, few, ExtremaSettings(), seed=5)
    np.testing.assert_allclose(
        drawn.rows.train.mean(axis=0), expected[draw(len(codes), 50, 5)].mean(axis=0), atol=2e-3
    )
    tokens, _ = active_rows(sp.csr_matrix(own), cluster, found.activity_limit)
    np.testing.assert_array_equal(tokens, np.arange(len(codes)))
    with pytest.raises(ValueError, match=r"all_off is True and max_norm_ratio is 2\.0"):
        RowSettings(all_off=True, max_norm_ratio=2.0)


def test_a_cluster_that_never_fires_has_no_rows_and_rank_zero() -> None:
    codes, _, cluster = planted()
    codes[:, cluster.latents] = 0
    found = gather_rows(in_parts(codes, cluster), cluster, RowSettings(), ExtremaSettings(), seed=5)
    assert found.rows.train.shape == found.rows.heldout.shape == (0, 3)
    assert found.pca_rank == 0


def test_a_single_latent_has_pca_rank_one() -> None:
    codes, decoder, _ = planted()
    columns = span_basis(decoder[[2]])
    single = Cluster(0, np.array([2]), columns, decoder[[2]] @ orthonormal(columns))
    found = gather_rows(in_parts(codes, single), single, RowSettings(), ExtremaSettings(), seed=5)
    assert found.pca_rank == 1


def test_draws_are_subsets_in_order() -> None:
    drawn = draw(100, 10, seed=1)
    assert len(drawn) == 10
    assert set(drawn) <= set(range(100))
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(draw(100, 100, seed=1), range(100))


def test_files_give_back_what_was_written(tmp_path) -> None:
    codes, _, cluster = planted()
    labels = np.array([3, -1, 3, 0, 3])
    save_clusters(tmp_path / "c.safetensors", labels, [cluster])
    np.testing.assert_array_equal(load_labels(tmp_path / "c.safetensors"), labels)
    loaded = load_cluster(tmp_path / "c.safetensors", 3)
    np.testing.assert_array_equal(loaded.basis, cluster.basis)
    np.testing.assert_array_equal(loaded.latents, [0, 2, 4])
    rows = gather_rows(
        in_parts(codes, cluster), cluster, RowSettings(), ExtremaSettings(), seed=5
    ).rows
    save_rows(tmp_path / "r.safetensors", [rows])
    (back,) = load_rows(tmp_path / "r.safetensors", tmp_path / "c.safetensors", [3])
    np.testing.assert_array_equal(back.basis, loaded.basis)
    for name in ("train", "heldout", "extrema"):
        np.testing.assert_array_equal(getattr(back, name), getattr(rows, name))


def lengths_and_codes(tmp_path, seed: int = 0):
    """Two shards, their lengths of the residual stream and their codes, BOS left out."""
    rng = np.random.default_rng(seed)
    paths, lengths, codes = [], [], []
    for shard in range(2):
        special = np.zeros((20, 6), dtype=bool)
        special[:, 0] = True
        norms = rng.uniform(1, 9, special.shape).astype(np.float32)
        # Those of BOS are huge, and count for nothing.
        norms[:, 0] = 1_000
        dense = np.where(rng.random((20, 6, 12)) < 0.4, rng.random((20, 6, 12)), 0)
        paths.append(
            write_shard(tmp_path / f"{shard}", np.ones((20, 6), int), special, dense, 0.0, norms)
        )
        lengths.append(norms[~special])
        codes.append(dense[~special])
    return paths, np.concatenate(lengths), np.concatenate(codes)


def test_long_tokens_are_no_rows_where_the_settings_say_so(tmp_path) -> None:
    paths, lengths, dense = lengths_and_codes(tmp_path)
    files = [tmp_path / f"by_latent_{i}" for i in range(len(paths))]
    for path, file in zip(paths, files, strict=True):
        write_by_latent(path, file)
    latents = np.arange(12)
    whole = CodesByLatent(files)
    assert whole.norm_limit is None
    np.testing.assert_allclose(whole.at_all_tokens(latents).toarray(), dense, rtol=1e-3)
    codes = CodesByLatent(files, max_norm_ratio=1.3)
    limit = codes.norm_limit
    assert limit == pytest.approx(1.3 * np.median(lengths))
    assert limit is not None
    kept, long = codes.at_all_tokens(latents), lengths > limit
    assert 10 < long.sum() < 100
    np.testing.assert_allclose(kept.toarray(), np.where(long[:, None], 0, dense), rtol=1e-3)
    np.testing.assert_array_equal(codes.activity, whole.activity)
    # A held-out shard is judged by the length that training tokens gave.
    shard = read_shard(paths[0])
    counted = without_long_tokens_of(shard, limit).codes[~shard.special.ravel()]
    np.testing.assert_array_equal(counted.toarray(), kept[:100].toarray())
    assert without_long_tokens_of(shard, np.nan).codes.nnz == shard.codes.nnz


def test_a_cluster_that_is_never_trained_has_the_same_rows_and_says_why_it_has_no_extrema() -> None:
    codes, _, cluster = planted()
    parts = in_parts(codes, cluster)
    trained, untrained = (
        gather_rows(parts, cluster, RowSettings(), extrema, seed=5)
        for extrema in (ExtremaSettings(), None)
    )
    np.testing.assert_array_equal(trained.rows.train, untrained.rows.train)
    assert untrained.rows.extrema.shape == (0, 3)
    assert untrained.extrema_problem == "not looked for: no AANet is trained on it"
