"""Whether local corpus files hold what a study asks for, found out before any work starts."""

import logging
from collections.abc import Hashable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from aanet_assets.science.activations.corpus import Tally, chunks, corpus_files, documents
from aanet_assets.science.activations.text_files import check_readable, count_documents
from aanet_assets.storage.fingerprints import stamp_of
from aanet_assets.study.settings import CacheSettings, CorpusSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("aanet")

CHARACTERS = 32_000_000
"""Tokenised at most: about ten seconds' work."""

_known: dict[Hashable, "Supply"] = {}
"""Corpora that this process has looked at already: every shard's run asks again."""


class Supply(NamedTuple):
    """What is known of a corpus that suffices as far as one can see."""

    documents: int
    """Documents it has; counted no further than the study reads."""
    said: str
    """How far its tokens were counted, and what they come to."""


def check_supply(
    corpus: CorpusSettings,
    cache: CacheSettings,
    tokenizer: "PreTrainedTokenizerBase | None",
    sae_wants_bos: bool,
) -> Supply:
    """Count the documents of local files, and the tokens of shards as far as that is cheap.

    Raises:
        ValueError: a file cannot be read, the last shard begins after the corpus's end, or the
            documents of a shard do not give its tokens.
    """
    files = corpus_files(corpus)
    stamps = tuple((file, stamp_of(file)) for file in files)
    name = tokenizer and tokenizer.name_or_path
    key = (corpus, cache, name, sae_wants_bos, stamps)
    if key in _known:
        return _known[key]
    for file in files:
        check_readable(file, corpus)
    shards, each = cache.training_shards + cache.heldout_shards, cache.documents_per_shard
    count = count_documents(files, corpus, shards * each)
    if not count:
        raise ValueError(f"the corpus {corpus.files} has no documents")
    if count <= (shards - 1) * each:
        lower = f"lower cache.documents_per_shard to {count // shards:,} or " * (count >= shards)
        raise ValueError(
            f"the corpus {corpus.files} has {count:,} documents, and the last of {shards} shards "
            f"(cache.training_shards and cache.heldout_shards) of {each:,} "
            f"(cache.documents_per_shard) begins at document {(shards - 1) * each:,}: {lower}ask "
            "for fewer shards"
        )
    said = "its tokens are counted once the model's tokenizer is here"
    if tokenizer is not None:
        said = _count_tokens(corpus, cache, tokenizer, sae_wants_bos)
    _known[key] = Supply(count, said)
    return _known[key]


def _count_tokens(
    corpus: CorpusSettings,
    cache: CacheSettings,
    tokenizer: "PreTrainedTokenizerBase",
    sae_wants_bos: bool,
) -> str:
    shards = cache.training_shards + cache.heldout_shards
    # The last shard may have fewer documents than the others.
    order = dict.fromkeys((0, shards - 1, *range(shards)))
    left, whole = CHARACTERS, 0
    for shard in order:
        looked_at = _Budget(documents(corpus, shard, cache.documents_per_shard), left)
        tally = Tally()
        cut = chunks(looked_at, tokenizer, cache, sae_wants_bos, tally)
        found = sum(1 for _ in islice(cut, cache.chunks_per_shard))
        left = looked_at.left
        if found == cache.chunks_per_shard:
            whole += 1
        elif left > 0:
            raise ValueError(tally.shortage(shard, found, cache))
        else:
            return _estimate(shard, found, tally, cache, whole)
    return f"all {shards} shards have their tokens"


def _estimate(shard: int, found: int, tally: Tally, cache: CacheSettings, whole: int) -> str:
    """Of a shard that was looked at in part; warns where its documents seem too few."""
    each = cache.documents_per_shard
    likely = found * cache.seq_len * each // tally.documents
    said = (
        f"by its first {tally.documents:,} documents, the {each:,} of shard {shard} give about "
        f"{likely:,} tokens of the {cache.tokens_per_shard:,} asked for"
    )
    if likely < cache.tokens_per_shard:
        log.warning(
            f"{said}: it may end too early (lower cache.tokens_per_shard, or raise "
            "cache.documents_per_shard)"
        )
    return said if not whole else f"{whole} shards have their tokens; {said}"


class _Budget:
    """Texts, until their characters are used up."""

    def __init__(self, texts: Iterator[str], left: int):
        self._texts, self.left = texts, left

    def __iter__(self) -> Iterator[str]:
        while self.left > 0 and (text := next(self._texts, None)) is not None:
            self.left -= len(text)
            yield text
