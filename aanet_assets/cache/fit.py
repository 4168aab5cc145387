"""Whether an SAE belongs to the model, layer and dtype it is used with, by a few tokens."""

import logging
import time
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from aanet_assets.cache.encode import Encoder
from aanet_assets.cache.shards import ARRAYS
from aanet_assets.lm.corpus import Tally, chunks, documents
from aanet_assets.study import Study

log = logging.getLogger("aanet")


class Fit(NamedTuple):
    """What the SAE does on the first tokens of the corpus that count."""

    tokens: int
    """Tokens that were looked at."""
    l0: float
    """Mean number of active latents."""
    unexplained: float
    """Squared error of the reconstruction over squared distance from the mean; nan where there is
    no such distance."""
    bytes_per_token: float
    """Size of the activation cache, special positions included."""


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
    rows, errors = [], 0.0
    for first in range(0, len(found), cache.batch_chunks):
        batch = found[first : first + cache.batch_chunks]
        started = time.monotonic()
        stream, codes = encoder.encode(batch)
        block = encoder.pack(batch, codes, 0)
        seconds += time.monotonic() - started
        size += sum(getattr(block, name).nbytes for name in ARRAYS)
        counted += int((~block.special).sum())
        active += len(block.values)
        kept = torch.from_numpy(~block.special).to(stream.device)
        with torch.inference_mode():
            error = (stream - encoder.sae.decode(codes))[kept]
            errors += float(error.square().sum())
            rows.append(stream[kept].cpu().numpy())
    everywhere = np.concatenate(rows).astype(np.float64)
    total = float(np.square(everywhere - everywhere.mean(axis=0)).sum())
    everything = len(found) * cache.seq_len
    fit = Fit(
        int(counted), active / counted, errors / total if total else float("nan"), size / everything
    )
    return fit, everything / seconds


def estimate(study: Study, fit: Fit, rate: float) -> str:
    """Size of the study's cache and the time that making it takes, for people."""
    shards = study.cache.training_shards + study.cache.heldout_shards
    each = study.cache.chunks_per_shard * study.cache.seq_len
    size, minutes = shards * each * fit.bytes_per_token / 1e9, shards * each / rate / 60
    return (
        f"{shards} shards of {each:,} tokens take {size:,.2f} GB and about {minutes:,.0f} min at "
        f"{rate:,.0f} tokens per second"
    )
