"""A BatchTopK SAE trained on a study's own model and corpus, and what it costs the model."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from aanet_assets.science.activations.architecture import body_of, layers_of
from aanet_assets.science.activations.corpus import (
    chunks,
    documents,
    load_tokenizer,
    special_positions,
)
from aanet_assets.science.activations.language_model import ResidualReader
from aanet_assets.science.activations.sae import load_sae
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.activations.sae_training import sae_quality, train_sae
from aanet_assets.science.activations.tokens import special_ids
from aanet_assets.study.progress import Progress
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import LocalSettings, SaeSettings
from aanet_assets.study.study import Study
from aanet_assets.study.threads import torch_threads

LR = 1e-3
_FRESH = 50_000
"""Tokens that judge the SAE, after those that train it."""
_SPLICED = 64
"""Chunks of those on which its reconstruction takes the place of the residual stream."""
_AT_ONCE = 8
"""Chunks in one pass of the whole model, whose output is a number per word of its vocabulary."""


class SplicedLoss(NamedTuple):
    """Next-token losses of the model, in nats per token."""

    whole: float
    """As it is."""
    spliced: float
    """With the SAE's reconstruction in place of the residual stream, special positions left."""
    ablated: float
    """With the mean of the residual stream in its place."""


def write_sae(study: Study, local: LocalSettings, folder: Path) -> dict[str, Any]:
    """Train an SAE, write it to `folder` as SAELens does, and say how good it is.

    Raises:
        ValueError: the corpus has too few tokens.
    """
    with torch_threads():
        return _write_sae(study, local, folder)


def _write_sae(study: Study, local: LocalSettings, folder: Path) -> dict[str, Any]:
    tokens, special, activations = _activations(study, local)
    fresh = activations[local.sae_tokens :]
    config = BatchTopKTrainingSAEConfig(
        d_in=activations.shape[1],
        d_sae=local.latents,
        k=local.active,
        normalize_activations="expected_average_only_in",
        rescale_acts_by_decoder_norm=True,
        decoder_init_norm=0.1,
        metadata=SAEMetadata(
            model_name=study.model,
            hook_name=f"blocks.{local.layer}.hook_resid_post",
            prepend_bos=study.cache.prepend_bos != "no",
            context_size=study.cache.seq_len,
        ),
    )
    trained = train_sae(
        lambda: BatchTopKTrainingSAE(config),
        activations[: local.sae_tokens],
        local.sae_steps,
        seed_for(local.seed, study.name, "sae"),
        "training the SAE",
        lr=LR,
        lr_end=LR / 20,
        lr_warm_up_steps=min(200, local.sae_steps // 4),
        dead_feature_window=500,
        feature_sampling_window=1_000,
    )
    folder.mkdir(parents=True, exist_ok=True)
    trained.save_inference_model(folder)
    # What is judged is what was written: a JumpReLU SAE, with one threshold for all tokens.
    sae = load_sae(SaeSettings(directory=str(folder)))
    last, mean = slice(-_SPLICED, None), fresh.mean(0, dtype=torch.float32)
    loss = splice(study, sae, local.layer, tokens[last], special[last], mean)
    return {**sae_quality(sae, fresh)._asdict(), **loss._asdict()}


def _activations(
    study: Study, local: LocalSettings
) -> tuple[
    Int[np.ndarray, "chunks seq"], Bool[np.ndarray, "chunks seq"], Float[Tensor, "tokens d_model"]
]:
    """Tokens, special positions, and the residual stream at the others, in half precision."""
    read = ResidualReader(study, Hook(local.layer, "post"))
    tokenizer = load_tokenizer(study)
    wanted = local.sae_tokens + _FRESH
    found = chunks(documents(study.corpus, 0, 10**9), tokenizer, study.cache, True)
    progress = Progress(wanted, "tokens", "reading activations for the SAE")
    kept: Tensor | None = None
    done, all_tokens, all_special = 0, [], []
    while done < wanted and (batch := list(islice(found, study.cache.batch_chunks))):
        tokens = np.array([chunk.tokens for chunk in batch], dtype=np.int64)
        special = special_positions(tokens, special_ids(tokenizer))
        residual = read(torch.from_numpy(tokens))[torch.from_numpy(~special)].half().cpu()
        if kept is None:
            kept = torch.empty(wanted, residual.shape[1], dtype=torch.float16)
        residual = residual[: wanted - done]
        kept[done : done + len(residual)] = residual
        done += len(residual)
        all_tokens.append(tokens)
        all_special.append(special)
        progress.advance(len(residual))
    if kept is None or done < wanted:
        raise ValueError(
            f"the corpus has {done:,} tokens that count; training the SAE needs {wanted:,}: lower "
            "local.sae_tokens or raise local.characters"
        )
    return np.concatenate(all_tokens), np.concatenate(all_special), kept


@torch.inference_mode()
def splice(
    study: Study,
    sae: SAE,
    layer: int,
    tokens: Int[np.ndarray, "chunks seq"],
    special: Bool[np.ndarray, "chunks seq"],
    mean: Float[Tensor, " d_model"],
) -> SplicedLoss:
    """Losses of the whole model with and without the SAE in its residual stream after `layer`."""
    model = AutoModelForCausalLM.from_pretrained(**study.pretrained, dtype=torch.float32).eval()
    place = layers_of(body_of(model))[layer]
    ids, counted = torch.from_numpy(tokens), torch.from_numpy(~special)[..., None]

    def loss(instead: Callable[[Tensor], Tensor]) -> float:
        parts = zip(ids.split(_AT_ONCE), counted.split(_AT_ONCE), strict=True)
        losses = [_loss(model, place, *part, instead) * len(part[0]) for part in parts]
        return sum(losses) / len(ids)

    return SplicedLoss(
        whole=loss(lambda stream: stream),
        spliced=loss(lambda stream: sae.decode(sae.encode(stream))),
        ablated=loss(lambda stream: mean.expand_as(stream)),
    )


def _loss(
    model: PreTrainedModel,
    place: nn.Module,
    tokens: Int[Tensor, "chunks seq"],
    counted: Bool[Tensor, "chunks seq 1"],
    instead: Callable[[Tensor], Tensor],
) -> float:
    """Loss with what `instead` makes of the stream after `place`, at the positions that count."""

    def edit(_place: nn.Module, _inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        stream = output if isinstance(output, Tensor) else output[0]
        changed = torch.where(counted, instead(stream), stream)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    handle = place.register_forward_hook(edit)
    try:
        return float(model(input_ids=tokens, labels=tokens, use_cache=False).loss)
    finally:
        handle.remove()
