"""Shards keep exactly what counts, and give it back."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.science.activations.shards import (
    chunks_in,
    counted_codes,
    counted_tokens,
    join_blocks,
    read_shard,
)
from aanet_assets_tests.shards import block_of, write_shard


def batch(seed: int, chunks: int, seq: int, latents: int):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 100, (chunks, seq))
    special = rng.random((chunks, seq)) < 0.2
    codes = np.where(
        rng.random((chunks, seq, latents)) < 0.3, rng.random((chunks, seq, latents)), 0
    )
    return tokens, special, codes.astype(np.float32)


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_shard_is_the_dense_codes_without_special_positions(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    batches = [batch(seed + i, size, 4, 7) for i, size in enumerate(sizes)]
    blocks = [write_shard(folder / f"{i}", *part, threshold=0.1) for i, part in enumerate(batches)]
    path = folder / "s.safetensors"
    join_blocks(blocks, path)
    assert sorted(folder.iterdir()) == sorted([*blocks, path]), "nothing else is left"
    assert chunks_in(path) == sum(sizes)
    shard = read_shard(path)
    tokens, special, codes = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_array_equal(shard.tokens, tokens)
    np.testing.assert_array_equal(shard.special, special)
    np.testing.assert_array_equal(shard.documents, np.concatenate([*map(np.arange, sizes)]))
    expected = np.where(special[..., None] | (codes <= 0.1), 0, codes).reshape(-1, 7)
    np.testing.assert_allclose(shard.codes.toarray(), expected, rtol=1e-3)
    assert isinstance(shard.codes, sp.csr_matrix)


def test_blocks_without_a_single_code_are_joined_too(tmp_path: Path) -> None:
    tokens, special, codes = batch(0, 2, 4, 5)
    silent = write_shard(tmp_path / "0", tokens, special, 0 * codes, 0.1)
    join_blocks([silent, silent], tmp_path / "s")
    assert read_shard(tmp_path / "s").codes.nnz == 0
    assert len(read_shard(tmp_path / "s").tokens) == 4


def test_counted_codes_and_tokens_run_parallel_over_shards(tmp_path: Path) -> None:
    parts = [batch(seed, 3, 4, 5) for seed in range(3)]
    paths = [write_shard(tmp_path / f"{i}", *part, threshold=0.0) for i, part in enumerate(parts)]
    expected_tokens = [tokens[~special] for tokens, special, _ in parts]
    expected_codes = [codes[~special] for _, special, codes in parts]
    np.testing.assert_array_equal(counted_tokens(paths), np.concatenate(expected_tokens))
    np.testing.assert_allclose(
        counted_codes(paths).toarray(), np.concatenate(expected_codes), rtol=1e-3
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 70_000.0])
def test_codes_that_cannot_be_kept_are_refused_unless_special(bad: float) -> None:
    tokens, special, codes = batch(0, 1, 4, 5)
    special[:] = [True, False, False, False]
    codes[0, 0, 2] = bad
    block_of(tokens, special, codes, 0.0)  # BOS may hold anything
    codes[0, 1, 2] = bad
    with pytest.raises(ValueError, match="not finite or above 65,504"):
        block_of(tokens, special, codes, 0.0)
