"""Clusters read their own latents' codes, shard by shard, and find what all codes at once give."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from aanet_assets.science.activations.by_latent import CodesByLatent, write_by_latent
from aanet_assets.science.activations.rows import (
    Cluster,
    activity_limit,
    draw,
    gather_rows,
    summed_activation,
)
from aanet_assets.science.activations.shards import counted_codes
from aanet_assets.science.clustering.cooccurrence import cooccurrence
from aanet_assets.science.clustering.ranks import activation_pca_rank, orthonormal, span_basis
from aanet_assets.science.selection.shape_tables import coactivity_of
from aanet_assets.science.selection.shapes import active_together, coactivity
from aanet_assets.steps.checks.activations import check_by_latent
from aanet_assets.study.settings import ExtremaSettings, RowSettings
from aanet_assets_tests.checks.edits import edit_arrays
from aanet_assets_tests.shards import write_shard

LATENTS, D_MODEL = 14, 9


def written(folder: Path, seed: int, sizes: list[int], density: float):
    """Shards of so many chunks, and their codes by latent."""
    rng, shards, files = np.random.default_rng(seed), [], []
    for i, chunks in enumerate(sizes):
        special = rng.random((chunks, 5)) < 0.2
        fires = rng.random((chunks, 5, LATENTS)) < density
        codes = np.where(fires, rng.random(fires.shape), 0)
        shards.append(write_shard(folder / f"{i}", np.ones((chunks, 5), int), special, codes, 0.0))
        files.append(folder / f"{i}.by_latent")
        assert write_by_latent(shards[-1], files[-1]) == counted_codes([shards[-1]]).nnz
    return shards, files


def cluster_of(latents: np.ndarray, seed: int) -> Cluster:
    decoder = np.random.default_rng(seed).standard_normal((LATENTS, D_MODEL)).astype(np.float32)
    columns = span_basis(decoder[latents])
    return Cluster(0, latents, columns, decoder[latents] @ orthonormal(columns))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    density=st.sampled_from([0.02, 0.3, 0.9]),
    members=st.integers(0, 5),
    kind=st.sampled_from(["absolute", "relative"]),
    threshold=st.sampled_from([0.0, 0.4]),
    most=st.sampled_from([7, 1000]),
)
def test_one_shard_at_a_time_gives_what_all_codes_at_once_do(
    tmp_path_factory, seed, sizes, density, members, kind, threshold, most
) -> None:
    shards, files = written(tmp_path_factory.mktemp("codes"), seed, sizes, density)
    whole, codes = counted_codes(shards), CodesByLatent(files)
    np.testing.assert_array_equal(codes.activity, whole.getnnz(axis=0) / len(whole.indptr[1:]))
    assert codes.average_l0 == whole.nnz / len(whole.indptr[1:])
    latents = np.sort(np.random.default_rng(seed).choice(LATENTS, members, replace=False))
    own = whole[:, latents]
    np.testing.assert_array_equal(codes.at_all_tokens(latents).toarray(), own.toarray())

    cluster = cluster_of(latents, seed)
    choice = RowSettings(
        threshold=threshold, threshold_kind=kind, max_rows=most, pca_rows=most, heldout_share=0.3
    )
    found = gather_rows(codes.members(latents), cluster, choice, ExtremaSettings(), seed)
    sums = np.asarray(own.sum(axis=1)).ravel()
    limit = activity_limit(sums, choice)
    active = np.flatnonzero(sums > limit)
    assert (found.active_tokens, found.activity_limit) == (len(active), limit)
    rows = own[active[draw(len(active), most, seed)]] @ cluster.coordinates
    held_out = np.zeros(len(rows), dtype=bool)
    chosen = np.random.default_rng(seed).permutation(len(rows))
    held_out[chosen[: int(len(rows) * 0.3)]] = True
    np.testing.assert_array_equal(found.rows.train, rows[~held_out])
    np.testing.assert_array_equal(found.rows.heldout, rows[held_out])
    fires = np.flatnonzero(sums > 0)
    firing = fires[draw(len(fires), most, seed)]
    if members > 1:
        assert found.pca_rank == activation_pca_rank(own[firing] @ cluster.coordinates)

    lengths = np.random.default_rng(seed).random(LATENTS).astype(np.float32)
    expected = coactivity(active_together(own[active], lengths[latents]))
    assert coactivity_of(latents, codes, lengths, choice) == expected


def test_cooccurrences_of_shards_are_those_of_all_codes(tmp_path: Path) -> None:
    shards, files = written(tmp_path, 3, [20, 1, 40], 0.2)
    some = np.array([1, 2, 5, 9, 13])
    whole = counted_codes(shards)[:, some]
    for kind in ("jaccard", "phi", "mutual_information"):
        one = cooccurrence([whole], 0.3, kind)
        several = cooccurrence(CodesByLatent(files).members(some), 0.3, kind)
        np.testing.assert_array_equal(one.toarray(), several.toarray())


def peak_of(work) -> int:
    """Most bytes held while it runs."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path: Path) -> None:
    # Six latents fire often, the cluster's eight at one token in a hundred.
    rng = np.random.default_rng(0)
    often = np.r_[np.full(6, 0.9), np.full(8, 0.01 / 8)]
    codes = rng.random((4_000, 5, LATENTS)) * (rng.random((4_000, 5, LATENTS)) < often)
    special = np.zeros((4_000, 5), dtype=bool)
    shard = write_shard(tmp_path / "shard", np.ones((4_000, 5), int), special, codes, 0.0)
    write_by_latent(shard, tmp_path / "0")
    files = [tmp_path / str(i) for i in range(32)]
    for file in files[1:]:
        os.link(files[0], file)
    cluster, choice = cluster_of(np.arange(6, 14), 0), RowSettings(max_rows=100, pca_rows=100)

    def rows(count: int) -> int:
        members = CodesByLatent(files[:count]).members(cluster.latents)
        return peak_of(lambda: gather_rows(members, cluster, choice, ExtremaSettings(), 0))

    def pairs(count: int) -> int:
        members = CodesByLatent(files[:count]).members(np.arange(LATENTS))
        return peak_of(lambda: cooccurrence(members, 0.0, "phi"))

    for work in (rows, pairs):
        work(1)
        # Eight times the tokens: all of their codes would take 8 MB a shard.
        assert work(32) < 1.5 * work(4)


def damaged(tmp_path: Path, change) -> dict[str, str]:
    shards, files = written(tmp_path, 0, [30], 0.3)
    assert all(found.passed for found in check_by_latent(files[0], shards[0]))
    edit_arrays(files[0], change)
    found = check_by_latent(files[0], shards[0])
    return {each.name: each.said for each in found if not each.passed}


def test_damaged_codes_are_told(tmp_path: Path) -> None:
    def shift(arrays):
        arrays["ends"][3] += 1

    def other(arrays):
        arrays["values"][7] *= 2

    def swap(arrays):
        arrays["tokens"][[0, 1]] = arrays["tokens"][[1, 0]]

    def beyond(arrays):
        arrays["tokens"][-1] = 60_000

    said = damaged(tmp_path, shift)["complete"]
    assert said == "2 of 14 latents have other numbers of codes than in the shard; none may"
    said = damaged(tmp_path, other)["values"]
    assert said.startswith("the codes of 1 of 14 latents add up to another sum")
    assert list(damaged(tmp_path, swap)) == ["order"]
    assert list(damaged(tmp_path, beyond)) == ["complete"]


@pytest.mark.parametrize("latents", [[], [3], [13, 0]])
def test_members_come_in_the_order_that_is_asked_for(tmp_path: Path, latents: list[int]) -> None:
    shards, files = written(tmp_path, 1, [10, 10], 0.5)
    parts = list(CodesByLatent(files).members(np.array(latents, dtype=int)))
    assert len(parts) == 2
    expected = counted_codes(shards).toarray()[:, latents]
    np.testing.assert_array_equal(sp.vstack(parts).toarray(), expected)
    assert summed_activation(parts[0]).shape == (parts[0].indptr.size - 1,)
