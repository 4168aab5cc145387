"""From documents to a shard: tokenise, run the language model to the SAE's layer, encode, store."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from aanet_assets.cache.shards import ShardWriter
from aanet_assets.lm.corpus import chunks, documents, load_tokenizer, special_positions
from aanet_assets.lm.model import ResidualReader
from aanet_assets.lm.sae import hook_of, load_sae, prepends_bos
from aanet_assets.progress import Progress
from aanet_assets.study import Study


def build_shard(study: Study, shard: int, path: Path) -> None:
    """Write one shard of the study's activation cache to `path`."""
    sae = load_sae(study.sae, study.device)
    read = ResidualReader(study, hook_of(sae))
    tokenizer = load_tokenizer(study)
    texts = documents(study.corpus, shard, study.cache.documents_per_shard)
    progress = Progress(study.cache.documents_per_shard, "documents", f"caching shard {shard}")
    writer = ShardWriter(sae.cfg.d_sae, study.cache.activity_threshold)
    found = chunks(_counted(texts, progress), tokenizer, study.cache, prepends_bos(sae))
    while batch := list(islice(found, study.cache.batch_chunks)):
        tokens = np.array(batch, dtype=np.int64)
        residual = read(torch.from_numpy(tokens))
        with torch.inference_mode():
            codes = sae.encode(residual).float().cpu().numpy()
        writer.add(tokens, special_positions(tokens, tokenizer.all_special_ids), codes)
    writer.write(path)


def _counted(texts: Iterator[str], progress: Progress) -> Iterator[str]:
    for text in texts:
        yield text
        progress.advance()
