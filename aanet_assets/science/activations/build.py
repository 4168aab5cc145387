"""From documents to a shard: tokenise, run the language model to the SAE's layer, encode, store.

A shard is made of blocks of chunks, one forward pass each. A block is in a file of its own as soon
as it is there, and the next run goes on after the last one; only then are they joined.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from aanet_assets.science.activations.corpus import Chunk, Tally, chunks, documents
from aanet_assets.science.activations.encode import Encoder
from aanet_assets.science.activations.shards import chunks_in, join_blocks, read_shard, save_block
from aanet_assets.science.activations.space import check_space
from aanet_assets.study.progress import Progress
from aanet_assets.study.study import Study

log = logging.getLogger("aanet")


def build_shard(
    study: Study,
    shard: int,
    path: Path,
    digest: str,
    bytes_per_token: float,
    tally: Tally | None = None,
    load: Callable[[Study], Encoder] = Encoder,
) -> int:
    """Write one shard of the study's activation cache to `path`.

    Args:
        study: names model, SAE and corpus.
        shard: number of the shard.
        path: its file.
        digest: of all that decides the shard's content; blocks of another digest are not used.
        bytes_per_token: what a token takes on the disk, by earlier measurement.
        tally: counts what becomes of the shard's documents, up to the last one needed.
        load: gives the study's model and SAE.

    Returns: number of chunks in blocks that an earlier, interrupted run had left.

    Raises:
        ValueError: the corpus, or one of the SAE's codes, is not usable.
        ConnectionError: the corpus could not be read for minutes.
        OSError: the disk is too full.
    """
    cache = study.cache
    folder = path.parent / f".{path.stem}.{digest}.blocks"
    for other in set(path.parent.glob(f".{path.stem}.*.blocks")) - {folder}:
        shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    check_space(path, int(cache.chunks_per_shard * cache.seq_len * bytes_per_token))
    blocks = sorted(folder.glob("[0-9]*.safetensors"))
    there = sum(map(chunks_in, blocks))
    if there:
        log.info(f"shard {shard}: going on after {there:,} chunks that an earlier run left")
    encoder = load(study)
    found = _chunks(study, shard, encoder, Tally() if tally is None else tally)
    missing = islice(found, there, None)
    progress = Progress(
        (cache.chunks_per_shard - there) * cache.seq_len, "tokens", f"caching shard {shard}"
    )
    while batch := list(islice(missing, cache.batch_chunks)):
        block = encoder.block(batch, shard * cache.documents_per_shard)
        blocks.append(folder / f"{len(blocks):06d}.safetensors")
        save_block(blocks[-1], block, encoder.n_latents)
        progress.advance(len(batch) * cache.seq_len)
    join_blocks(blocks, path)
    shutil.rmtree(folder)
    return there


def _chunks(study: Study, shard: int, encoder: Encoder, tally: Tally) -> Iterator[Chunk]:
    """All of the shard's chunks; ValueError once it turns out that there are too few."""
    cache, found = study.cache, 0
    texts = documents(study.corpus, shard, cache.documents_per_shard)
    cut = chunks(texts, encoder.tokenizer, cache, encoder.prepends_bos, tally)
    for chunk in islice(cut, cache.chunks_per_shard):
        found += 1
        yield chunk
    if found < cache.chunks_per_shard:
        raise ValueError(tally.shortage(shard, found, cache))


def shard_row(study: Study, shard: int, path: Path, tally: Tally, digest: str) -> dict[str, Any]:
    """What the table `cache_shards` says of a shard that was just built.

    Args:
        tally: what became of the documents that it was cut from.
        digest: of all that it was made from.
    """
    stored = read_shard(path)
    counted = int((~stored.special).sum())
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "shard": shard,
        "use": "training" if shard in study.training_shards else "held out",
        "first_document": stored.documents.min(),
        "last_document": stored.documents.max(),
        **asdict(tally),
        "chunks": len(stored.tokens),
        "tokens": stored.tokens.size,
        "counted_tokens": counted,
        "l0": stored.codes.nnz / counted,
        "bytes": path.stat().st_size,
        "sha256": checksum,
        "made_from": digest,
        **study.revisions,
    }
