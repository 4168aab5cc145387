"""The language model's own next-token distributions at the held-out tokens.

A file holds `probabilities` (counted tokens, groups) in float16, in the order of `counted_tokens`
of the shard, and `losses` (counted tokens): nats by which the model was surprised by the token that
came next, NaN where that is in no chunk any more. Like a shard, it is made of blocks, one forward
pass each, which an interrupted run leaves to the next one.
"""

import logging
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float32, Int
from safetensors import safe_open
from safetensors.numpy import save_file

from aanet_assets.science.activations.groups import GroupedPredictions
from aanet_assets.science.activations.shards import join_blocks, read_chunks
from aanet_assets.science.activations.space import check_space
from aanet_assets.science.activations.upper import WholeModel
from aanet_assets.storage.files import replacing
from aanet_assets.study.progress import Progress
from aanet_assets.study.study import Study

log = logging.getLogger("aanet")

LOGITS_AT_ONCE = 2**27
"""Logits of one forward pass, at most, but for those of a single chunk: half a gigabyte, of which
there are a few copies at a time."""


def chunks_at_once(study: Study, vocabulary: int) -> int:
    """Chunks in one forward pass of the whole model."""
    most = LOGITS_AT_ONCE // (study.cache.seq_len * vocabulary)
    return min(study.cache.batch_chunks, max(most, 1))


def build_predictions(
    study: Study,
    shard: Path,
    path: Path,
    digest: str,
    groups: Int[np.ndarray, " vocab"],
    load: Callable[[Study], WholeModel] = WholeModel,
) -> int:
    """Write the predictions at one shard's tokens to `path`.

    Args:
        study: names the model.
        shard: file of the shard.
        path: file of its predictions.
        digest: of all that decides their content; blocks of another digest are not used.
        groups: the group of each token.
        load: gives the study's model.

    Returns: number of chunks in blocks that an earlier, interrupted run had left.

    Raises:
        ValueError: the model cannot be used, or its logits are not finite.
        OSError: the disk is too full.
    """
    folder = path.parent / f".{path.stem}.{digest}.blocks"
    for other in set(path.parent.glob(f".{path.stem}.*.blocks")) - {folder}:
        shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    tokens, special = read_chunks(shard)
    check_space(path, tokens.size * (2 * (int(groups.max()) + 1) + 4))
    # Each is named by the number of chunks that are done with it.
    blocks = sorted(folder.glob("[0-9]*.safetensors"))
    there = int(blocks[-1].stem) if blocks else 0
    if there:
        log.info(f"{path.stem}: going on after {there:,} chunks that an earlier run left")
    model = load(study)
    if model.vocabulary != len(groups):
        raise ValueError(
            f"{study.model} predicts {model.vocabulary:,} tokens and token_groups has "
            f"{len(groups):,}: they are not of the same model; make token_groups again"
        )
    sums = GroupedPredictions(groups, study.device)
    left = (len(tokens) - there) * tokens.shape[1]
    progress = Progress(left, "tokens", f"predicting {path.stem}")
    size = chunks_at_once(study, model.vocabulary)
    for first, end in pairwise([*range(there, len(tokens), size), len(tokens)]):
        arrays = predict(model, sums, tokens[first:end], special[first:end])
        blocks.append(folder / f"{end:08d}.safetensors")
        with replacing(blocks[-1]) as temporary:
            save_file(arrays, temporary)
        progress.advance((end - first) * tokens.shape[1])
    join_blocks(blocks, path)
    shutil.rmtree(folder)
    return there


@torch.inference_mode()
def predict(
    model: WholeModel,
    sums: GroupedPredictions,
    tokens: Int[np.ndarray, "chunks seq"],
    special: Bool[np.ndarray, "chunks seq"],
) -> dict[str, np.ndarray]:
    """The arrays of a file, of some chunks.

    Raises:
        ValueError: the logits are not finite.
    """
    ids = torch.from_numpy(tokens.astype(np.int64))
    logits = model.logits(ids)
    following = ids[:, 1:, None].to(logits.device)
    losses = logits[:, :-1].logsumexp(-1) - logits[:, :-1].gather(-1, following)[..., 0]
    losses = torch.nn.functional.pad(losses, (0, 1), value=float("nan"))
    counted = torch.from_numpy(~special).to(logits.device)
    return {
        "probabilities": sums(logits[counted]).half().cpu().numpy(),
        "losses": losses[counted].cpu().numpy(),
    }


def read_predictions(path: Path) -> Float16[np.ndarray, "tokens groups"]:
    """Probability of each group of tokens to come next, at each counted token of a shard."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("probabilities")


def read_losses(path: Path) -> Float32[np.ndarray, " tokens"]:
    """Nats by which the model was surprised by the token after each one; NaN where none is."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("losses")


def fit_of(
    path: Path,
    shard: Path,
    groups: Int[np.ndarray, " vocab"],
    counts: Int[np.ndarray, " vocab"],
) -> dict[str, Any]:
    """What the table `prediction_fit` says of the predictions at one shard's tokens.

    Args:
        path: file of the predictions.
        shard: file of the shard.
        groups: the group of each token.
        counts: how often each token is one of the training shards.
    """
    losses, unigram = read_losses(path), unigram_losses(shard, counts)
    return {
        "tokens": len(losses),
        "groups": int(groups.max()) + 1,
        "followed_tokens": int(np.isfinite(losses).sum()),
        "cross_entropy": float(np.nanmean(losses, dtype=np.float64)),
        "unigram_cross_entropy": float(np.nanmean(unigram, dtype=np.float64)),
    }


def unigram_losses(
    shard: Path, counts: Int[np.ndarray, " vocab"]
) -> Float32[np.ndarray, " tokens"]:
    """The same of a prediction by frequency alone, in which each token has been seen once more."""
    tokens, special = read_chunks(shard)
    nats = -np.log((counts + 1) / (counts + 1).sum())
    following = np.full(tokens.shape, np.nan, dtype=np.float32)
    following[:, :-1] = nats[tokens[:, 1:]]
    return following[~special]
