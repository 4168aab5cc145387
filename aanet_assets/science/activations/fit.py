"""Whether an SAE belongs to the model, layer and dtype it is used with, by a few tokens."""

import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aanet_assets.science.activations.corpus import Chunk, Tally, chunks, documents
from aanet_assets.science.activations.encode import Encoder, without_codes
from aanet_assets.science.activations.language_model import ResidualReader
from aanet_assets.science.activations.sae import decoder_rows, hook_of, reads_centred
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.activations.shards import ARRAYS
from aanet_assets.science.activations.size import config_of
from aanet_assets.study.study import Study

LARGEST = 0.01
"""Share of tokens that are the largest ones."""
TINY = 1e-12
"""Length under which a reconstruction is none."""
NEIGHBOUR_TOKENS = 2_048
"""Tokens on which the hook is compared with its neighbours."""


class Fit(NamedTuple):
    """What the SAE does on the first tokens of the corpus that count."""

    tokens: int
    """Tokens that were looked at."""
    latents: int
    """Latents of the SAE."""
    l0: float
    """Mean number of active latents."""
    unexplained: float
    """Squared error of the reconstruction over squared distance from the mean; nan where there is
    no such distance."""
    median_unexplained: float
    """The same of the median token; here the mean is that of all but the largest 1% of tokens."""
    largest_share: float
    """Share of the squared distances from the mean that the largest 1% of tokens make; nan where
    there are none."""
    reconstruction_gap: float
    """Largest distance, over tokens, between the SAE's reconstruction and codes times decoder rows
    plus what it makes of no codes; relative to the reconstruction's length."""
    zero_rows: list[int]
    """Latents whose decoder row is zero."""
    hook: str
    """The hook that the SAE names."""
    hook_unexplained: float
    """`median_unexplained` there, on the tokens on which its neighbours are tried."""
    best_hook: str
    """The one of the hook and its neighbours, up to two layers away, where that is least."""
    best_unexplained: float
    """`median_unexplained` at the best hook."""
    bytes_per_token: float
    """Size of the activation cache, special positions included."""


class Unexplained(NamedTuple):
    """See the fields of `Fit`."""

    whole: float
    median: float
    largest_share: float


def measure_fit(study: Study) -> tuple[Fit, float]:
    """Try the SAE on the first `fit.tokens` tokens; also tells tokens per second.

    Raises:
        ValueError: the corpus has no document that is long enough for a chunk.
    """
    encoder, cache = Encoder(study), study.cache
    texts = documents(study.corpus, 0, cache.documents_per_shard)
    tally = Tally()
    found = chunks(texts, encoder.tokenizer, cache, encoder.prepends_bos, tally)
    found = list(islice(found, -(-study.fit.tokens // cache.seq_len)))
    if not found:
        raise ValueError(
            f"none of the first {tally.documents:,} documents gives a chunk: "
            f"{tally.dropped(cache)}; or raise cache.documents_per_shard"
        )
    size = seconds = counted = active = 0.0
    rows, errors, gaps = [], [], []
    for batch in _batches(found, cache.batch_chunks):
        started = time.monotonic()
        stream, codes = encoder.encode(batch)
        block = encoder.pack(batch, stream, codes, 0)
        seconds += time.monotonic() - started
        size += sum(getattr(block, name).nbytes for name in ARRAYS)
        counted += int((~block.special).sum())
        active += len(block.values)
        kept = torch.from_numpy(~block.special).to(stream.device)
        with torch.inference_mode():
            rebuilt = encoder.sae(stream)
            # Codes below zero are not kept.
            product = codes.relu() @ encoder.sae.W_dec + without_codes(encoder.sae, stream)
            apart = (product - rebuilt).norm(dim=-1) / rebuilt.norm(dim=-1).clamp(min=TINY)
            gaps.append(apart[kept].cpu().numpy())
            errors.append((stream - rebuilt)[kept].square().sum(-1).cpu().numpy())
            rows.append(stream[kept].cpu().numpy())
    if not counted:
        raise ValueError(
            f"all {len(found) * cache.seq_len:,} tokens that the SAE was tried on are special "
            "tokens, which never count: look at the corpus's text"
        )
    everything = len(found) * cache.seq_len
    unexplained = unexplained_of(np.concatenate(rows), np.concatenate(errors))
    few = found[: -(-NEIGHBOUR_TOKENS // cache.seq_len)]
    own, by_hook = hook_of(encoder.sae), _by_hook(study, encoder, few)
    best = min(by_hook, key=lambda hook: (np.nan_to_num(by_hook[hook], nan=np.inf), hook != own))
    fit = Fit(
        tokens=int(counted),
        latents=encoder.n_latents,
        l0=active / counted,
        unexplained=unexplained.whole,
        median_unexplained=unexplained.median,
        largest_share=unexplained.largest_share,
        reconstruction_gap=float(np.concatenate(gaps).max()),
        zero_rows=np.flatnonzero(~decoder_rows(encoder.sae).any(axis=1)).tolist(),
        hook=str(own),
        hook_unexplained=by_hook[own],
        best_hook=str(best),
        best_unexplained=by_hook[best],
        bytes_per_token=size / everything,
    )
    return fit, everything / seconds


def _batches(found: list[Chunk], size: int) -> Iterable[list[Chunk]]:
    return (found[first : first + size] for first in range(0, len(found), size))


def unexplained_of(
    stream: Float[np.ndarray, "tokens d_model"], errors: Float[np.ndarray, " tokens"]
) -> Unexplained:
    """What a reconstruction leaves of a residual stream, by its squared error at each token."""
    stream, errors = stream.astype(np.float64), errors.astype(np.float64)
    squares = np.square(stream - stream.mean(axis=0)).sum(axis=1)
    total = float(squares.sum())
    if not total > 0:
        return Unexplained(float("nan"), float("nan"), float("nan"))
    order = np.argsort(squares)
    largest = order[len(order) - int(np.ceil(LARGEST * len(order))) :]
    others = np.setdiff1d(order, largest)
    # A mean that a few huge tokens have pulled away is far from all others.
    centre = stream[others].mean(axis=0) if len(others) else stream.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = errors / np.square(stream - centre).sum(axis=1)
    return Unexplained(
        float(errors.sum() / total),
        float(np.median(shares)),
        float(squares[largest].sum() / total),
    )


def neighbours(hook: Hook, layers: int) -> list[Hook]:
    """The hook, and the points of the residual stream up to one layer below and one above it.

    They are on the hook's side of a layer where there is such a one.
    """
    # Point i is after i layers.
    own = hook.layer + (hook.side == "post")
    points = range(max(hook.layer - 1, 0), min(hook.layer + 2, layers) + 1)
    found = []
    for point in points:
        before = point < layers if hook.side == "pre" else point == 0
        found.append(Hook(point, "pre") if before else Hook(point - 1, "post"))
    assert own in points
    return found


def _by_hook(study: Study, encoder: Encoder, few: list[Chunk]) -> dict[Hook, float]:
    """What the SAE leaves of the median token at its hook and beside it, one reader at a time."""
    own, centred = hook_of(encoder.sae), reads_centred(encoder.sae)
    layers = config_of(study).get_text_config().num_hidden_layers
    found = {}
    for hook in neighbours(own, layers):
        read = encoder.read if hook == own else ResidualReader(study, hook, centred)
        rows, errors = [], []
        for batch in _batches(few, study.cache.batch_chunks):
            tokens = np.array([chunk.tokens for chunk in batch], dtype=np.int64)
            kept = torch.from_numpy(~encoder.special(tokens)).to(study.device)
            with torch.inference_mode():
                stream: Tensor = read(torch.from_numpy(tokens))
                error = (stream - encoder.sae(stream))[kept]
                errors.append(error.square().sum(-1).cpu().numpy())
                rows.append(stream[kept].cpu().numpy())
        found[hook] = unexplained_of(np.concatenate(rows), np.concatenate(errors)).median
    return found


def estimate(study: Study, fit: Fit, rate: float) -> str:
    """Size of the study's cache and the time that making it takes, for people."""
    shards = study.cache.training_shards + study.cache.heldout_shards
    each = study.cache.chunks_per_shard * study.cache.seq_len
    size, minutes = shards * each * fit.bytes_per_token / 1e9, shards * each / rate / 60
    return (
        f"{shards} shards of {each:,} tokens take {size:,.2f} GB and about {minutes:,.0f} min at "
        f"{rate:,.0f} tokens per second"
    )
