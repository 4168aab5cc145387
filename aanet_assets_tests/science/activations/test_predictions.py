"""Predictions by groups against the whole model's own, and files that an interruption leaves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from aanet_assets.science.activations import predictions
from aanet_assets.science.activations.groups import GroupedPredictions, group_tokens
from aanet_assets.science.activations.predictions import (
    build_predictions,
    chunks_at_once,
    read_losses,
    read_predictions,
    unigram_losses,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.science.activations.families import written
from aanet_assets_tests.shards import write_shard
from aanet_assets_tests.small import small_study

_GROUPS = group_tokens(np.arange(50)[::-1] // 2, 20)


def test_frequent_tokens_are_alone_and_the_others_are_dealt() -> None:
    counts = np.random.default_rng(0).integers(0, 1_000, 5_000)
    groups = group_tokens(counts, 64)
    sizes = np.bincount(groups)
    assert len(sizes) == 64
    assert (sizes[:32] == 1).all()
    assert set(sizes[32:]) == {(5_000 - 32) // 32, (5_000 - 32) // 32 + 1}
    alone = np.flatnonzero(groups < 32)
    assert counts[alone].min() >= np.delete(counts, alone).max()
    # Neighbours, which often are spellings of one word, are apart.
    assert np.mean(groups[1:] == groups[:-1]) < 0.1
    np.testing.assert_array_equal(groups, group_tokens(counts, 64))


@pytest.mark.parametrize("vocabulary", [1, 63, 64])
def test_a_small_vocabulary_is_kept_whole(vocabulary: int) -> None:
    groups = group_tokens(np.zeros(vocabulary, dtype=int), 64)
    np.testing.assert_array_equal(groups, np.arange(vocabulary))


def test_sums_over_groups() -> None:
    logits = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(0))
    found = GroupedPredictions(_GROUPS)(logits).numpy()
    each = logits.double().softmax(-1).numpy()
    for group in range(20):
        np.testing.assert_allclose(
            found[..., group], each[..., group == _GROUPS].sum(-1), rtol=1e-5, atol=1e-7
        )


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A random model of 50 tokens, three chunks of six tokens at once."""
    written(tmp_path / "model", "gpt2")
    monkeypatch.setattr(predictions, "LOGITS_AT_ONCE", 3 * 6 * 50)
    cache = small_study().cache.model_copy(update={"seq_len": 6})
    return small_study(model=str(tmp_path / "model"), cache=cache)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Ten chunks, some of whose tokens are special, one of them wholly so."""
    rng = np.random.default_rng(1)
    tokens, special = rng.integers(3, 50, (10, 6)), rng.random((10, 6)) < 0.2
    special[4] = True
    return write_shard(tmp_path / "shard", tokens, special, np.ones((10, 6, 2)), 0.0)


def test_predictions_are_those_of_the_whole_model(
    study: Study, shard: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out/shard.safetensors"
    assert chunks_at_once(study, 50) == 3
    assert build_predictions(study, shard, path, "digest", _GROUPS) == 0
    assert list(path.parent.iterdir()) == [path], "no block is left"
    found, losses = read_predictions(path), read_losses(path)
    tokens, special = predictions.read_chunks(shard)
    model = AutoModelForCausalLM.from_pretrained(study.model).eval()
    counts = np.arange(50)
    rows, expected, surprise, by_frequency = 0, [], [], []
    for chunk, ignored in zip(tokens, special, strict=True):
        with torch.no_grad():
            each = model(torch.tensor(chunk[None], dtype=torch.long)).logits[0].double()
        each = each.softmax(-1).numpy()
        for place in np.flatnonzero(~ignored):
            rows += 1
            expected.append(np.bincount(_GROUPS, each[place], minlength=20))
            last = place == 5
            surprise.append(np.nan if last else -np.log(each[place, chunk[place + 1]]))
            frequency = (chunk[min(place + 1, 5)] + 1) / (counts + 1).sum()
            by_frequency.append(np.nan if last else -np.log(frequency))
    assert found.dtype == np.float16
    assert found.shape == (rows, 20)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(losses, surprise, rtol=1e-5)
    np.testing.assert_allclose(unigram_losses(shard, counts), by_frequency, rtol=1e-5)


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_interrupted_predictions_go_on_and_are_the_same_bytes(
    study: Study, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    whole, path = tmp_path / "whole/shard.safetensors", tmp_path / "out/shard.safetensors"
    build_predictions(study, shard, whole, "digest", _GROUPS)
    done, real = [], predictions.predict

    def counted(*given):
        if len(done) == blocks:
            raise KeyboardInterrupt
        done.append(given)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(predictions, "predict", counted)
        if blocks == 4:
            # All blocks are there, and the kill came while they were joined.
            patch.setattr(predictions, "join_blocks", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError if blocks == 4 else KeyboardInterrupt):
            build_predictions(study, shard, path, "digest", _GROUPS)
    assert not path.exists()
    left = path.parent / ".shard.earlier.blocks"
    left.mkdir()
    assert build_predictions(study, shard, path, "digest", _GROUPS) == min(3 * blocks, 10)
    assert path.read_bytes() == whole.read_bytes()
    assert not left.exists()


def test_groups_of_another_vocabulary_are_refused(
    study: Study, shard: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="predicts 50 tokens and token_groups has 30"):
        build_predictions(study, shard, tmp_path / "out/x.safetensors", "d", np.arange(30))
