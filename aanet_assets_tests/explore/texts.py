"""Held-out texts in which a cluster is active, or is not."""

import numpy as np

from aanet_assets import Simplex
from aanet_assets.science.activations.corpus import load_tokenizer
from aanet_assets.science.activations.shards import read_shard
from aanet_assets.steps.activations import SHARD
from aanet_assets.study.study import Study


def heldout_texts(study: Study, count: int = 60) -> list[str]:
    """The first held-out documents."""
    tokenizer = load_tokenizer(study)
    shard = read_shard(SHARD.under(study.paths.root, shard=study.heldout_shards[0]))
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in shard.tokens[:count]]


def _activity(simplex: Simplex) -> tuple[list[str], np.ndarray]:
    texts = heldout_texts(Study.model_validate(simplex.provenance.settings))
    return texts, simplex.project(texts)["active"].to_numpy().reshape(len(texts), -1)


def active_text(simplex: Simplex) -> str:
    """One in which the cluster is active here and there, and not at the last token."""
    texts, active = _activity(simplex)
    own = (active.sum(axis=1) > 2) & ~active[:, -1]
    return texts[int(np.flatnonzero(own)[0])]


def silent_text(simplex: Simplex) -> str:
    """One in which it never is."""
    texts, active = _activity(simplex)
    return texts[int(np.flatnonzero(~active.any(axis=1))[0])]
