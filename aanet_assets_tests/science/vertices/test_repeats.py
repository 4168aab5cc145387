"""Chunks that repeat themselves: once per vertex, and none that stands in training text."""

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import save_file

from aanet_assets.science.activations.shards import Shard
from aanet_assets.science.vertices.repeats import chunk_hashes, hashes_of, near_repeats, without
from aanet_assets.science.vertices.report import stats_rows, status
from aanet_assets.study.settings import VertexSettings
from aanet_assets_tests.science.vertices.test_collect import SEQ, found_by, planted, tokenizer

__all__ = ["tokenizer"]


def taken(shard: Shard, chunks: np.ndarray) -> Shard:
    """Some chunks of a shard, in this order."""
    rows = (chunks[:, None] * SEQ + np.arange(SEQ)).ravel()
    names = ("tokens", "special", "documents", "starts", "norms")
    return Shard(*(getattr(shard, name)[chunks] for name in names), codes=shard.codes[rows])


def test_equal_chunks_are_one_sample_of_a_vertex(tokenizer) -> None:
    shard, cluster, model = planted(0)
    settings = VertexSettings(distance=0.8, samples_per_vertex=200)
    once = found_by([shard], cluster, model, tokenizer, settings)
    order = np.repeat(np.arange(len(shard.tokens)), 30)
    repeated = taken(shard, order)
    found = found_by([repeated, repeated], cluster, model, tokenizer, settings)
    assert found.samples == once.samples
    assert found.counts == once.counts
    assert sum(once.repeated) == 0
    # Each was seen 30 times in either shard.
    assert found.repeated == [count * 59 for count in once.counts]
    assert status(found, settings).startswith("incomplete_vertices_")
    for row in stats_rows(found, settings):
        own = {s.full_text for s in found.samples if s.vertex_id == row["vertex_id"]}
        assert row["different_texts"] == len(own) == row["samples"]
        assert row["repeated_chunks"] == found.repeated[row["vertex_id"]]


def test_chunks_that_are_another_but_for_some_words_are_counted() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 1000, 64)
    changed = first.copy()
    changed[rng.choice(64, 12, replace=False)] = 1001
    other = first.copy()
    other[rng.choice(64, 14, replace=False)] = 1001
    longer = np.concatenate([first[:20], [1001, 1002, 1003], first[20:61]])
    shorter = np.concatenate([first[:40], first[43:], [1001, 1002, 1003]])
    apart = rng.integers(0, 1000, (5, 64))

    def count(*chunks: np.ndarray) -> int:
        return near_repeats(np.array([first, *apart, *chunks]))

    assert [count(one) for one in (changed, other, longer, shorter)] == [1, 0, 1, 1]
    assert count(changed, longer, changed) == 3
    assert count() == 0
    assert near_repeats(np.array([[1]])) == 0
    assert near_repeats(np.array([[1, 2], [1, 2], [2, 1]])) == 1


def test_few_letters_are_no_repeats() -> None:
    # Two chunks of two letters have half of their places in common, and some pairs many more.
    chunks = np.random.default_rng(0).integers(0, 2, (200, 64))
    assert near_repeats(chunks) == 0
    chunks[1::2] = chunks[::2]
    chunks[1::2, 7] ^= 1
    assert near_repeats(chunks) == 100


def test_texts_of_one_template_are_near_repeats(tokenizer) -> None:
    shard, cluster, model = planted(0)
    settings = VertexSettings(distance=0.8, samples_per_vertex=200)
    once = found_by([shard], cluster, model, tokenizer, settings)
    assert [row["near_repeats"] for row in stats_rows(once, settings)] == [0] * len(once.counts)
    alike = taken(shard, np.repeat(np.arange(len(shard.tokens)), 2))
    # Of the second of each two the last token is another; it is equal to none.
    alike.tokens[1::2, -1] = np.where(alike.tokens[1::2, -1] == 3, 4, 3)
    found = found_by([alike], cluster, model, tokenizer, settings)
    for row in stats_rows(found, settings):
        own = [s.chunk_token_ids for s in found.samples if s.vertex_id == row["vertex_id"]]
        assert row["samples"] == row["different_texts"] == len(own)
        assert row["near_repeats"] >= len(own) // 2 - 1


def test_different_chunks_that_read_alike_are_counted_as_one_text(tokenizer) -> None:
    shard, cluster, model = planted(0)
    settings = VertexSettings(distance=0.8, samples_per_vertex=1000)
    # Special tokens do not show: 23 begins every chunk, 24 is not a letter either.
    tokens = np.concatenate([shard.tokens, shard.tokens])
    tokens[len(shard.tokens) :, 0] = tokenizer.eos_token_id or tokenizer.bos_token_id
    alike = Shard(
        tokens,
        *(
            np.concatenate([getattr(shard, name)] * 2)
            for name in ("special", "documents", "starts", "norms")
        ),
        codes=sp.vstack([shard.codes, shard.codes], format="csr"),
    )
    found = found_by([alike], cluster, model, tokenizer, settings)
    once = found_by([shard], cluster, model, tokenizer, settings)
    texts = [row["different_texts"] for row in stats_rows(found, settings)]
    assert texts == once.counts


def test_chunks_of_training_shards_are_left_out(tmp_path) -> None:
    shard, _, _ = planted(1)
    training, seen = tmp_path / "training.safetensors", np.array([3, 17, 17, 40])
    save_file({"tokens": shard.tokens[seen].astype(np.int32)}, training)
    known = hashes_of([training, training])
    assert known.nbytes == 3 * 8
    found = without(shard, known)
    expected = taken(shard, np.setdiff1d(np.arange(len(shard.tokens)), seen))
    for name in ("tokens", "special", "documents", "starts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(found.codes.toarray(), expected.codes.toarray())
    assert without(shard, hashes_of([])) is shard


def test_hashes_are_those_of_token_ids_whatever_holds_them() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 3, (5_000, 4))
    hashes = chunk_hashes(tokens.astype(np.int32))
    np.testing.assert_array_equal(hashes, chunk_hashes(tokens))
    by_row = {row.tobytes(): value for row, value in zip(tokens, hashes.tolist(), strict=True)}
    assert len(set(by_row.values())) == len(by_row) == 81
    assert [by_row[row.tobytes()] for row in tokens] == hashes.tolist()
    assert len(chunk_hashes(np.zeros((0, 4), dtype=np.int32))) == 0
