"""Shards keep exactly what counts, and give it back."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.cache.shards import ShardWriter, counted_codes, counted_tokens, read_shard


def batch(seed: int, chunks: int, seq: int, latents: int):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 100, (chunks, seq))
    special = rng.random((chunks, seq)) < 0.2
    codes = np.where(
        rng.random((chunks, seq, latents)) < 0.3, rng.random((chunks, seq, latents)), 0
    )
    return tokens, special, codes.astype(np.float32)


@given(seed=st.integers(0, 1000), chunks=st.integers(1, 5), latents=st.integers(1, 9))
def test_a_shard_is_the_dense_codes_without_special_positions(
    tmp_path_factory: pytest.TempPathFactory, seed: int, chunks: int, latents: int
) -> None:
    path = tmp_path_factory.mktemp("shard") / "s.safetensors"
    first, second = batch(seed, chunks, 4, latents), batch(seed + 1, 2, 4, latents)
    writer = ShardWriter(latents, activity_threshold=0.1)
    writer.add(*first)
    writer.add(*second)
    writer.write(path)
    shard = read_shard(path)
    tokens, special, codes = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    np.testing.assert_array_equal(shard.tokens, tokens)
    np.testing.assert_array_equal(shard.special, special)
    expected = np.where(special[..., None] | (codes <= 0.1), 0, codes).reshape(-1, latents)
    np.testing.assert_allclose(shard.codes.toarray(), expected, rtol=1e-3)
    assert isinstance(shard.codes, sp.csr_matrix)


def test_counted_codes_and_tokens_run_parallel_over_shards(tmp_path: Path) -> None:
    paths, expected_tokens, expected_codes = [], [], []
    for seed in range(3):
        tokens, special, codes = batch(seed, 3, 4, 5)
        writer = ShardWriter(5, 0.0)
        writer.add(tokens, special, codes)
        paths.append(tmp_path / f"{seed}.safetensors")
        writer.write(paths[-1])
        expected_tokens.append(tokens[~special])
        expected_codes.append(codes[~special])
    np.testing.assert_array_equal(counted_tokens(paths), np.concatenate(expected_tokens))
    np.testing.assert_allclose(
        counted_codes(paths).toarray(), np.concatenate(expected_codes), rtol=1e-3
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, 70_000.0])
def test_codes_that_cannot_be_kept_are_refused_unless_special(bad: float, tmp_path: Path) -> None:
    tokens, special, codes = batch(0, 1, 4, 5)
    special[:] = [True, False, False, False]
    writer = ShardWriter(5, 0.0)
    codes[0, 0, 2] = bad
    writer.add(tokens, special, codes)  # BOS may hold anything
    codes[0, 1, 2] = bad
    with pytest.raises(ValueError, match="not finite or above 65,504"):
        writer.add(tokens, special, codes)


def test_a_shard_without_any_chunk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no document of this shard is long enough"):
        ShardWriter(5, 0.0).write(tmp_path / "s.safetensors")
    assert not list(tmp_path.iterdir())
