"""Checks of a language model, a corpus and an SAE that were made on this machine."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq

from aanet_assets.storage.step import Finding
from aanet_assets.study.study import Study

SENTENCE = "The sun rises in the east and sets in the west, and this has been so for a long time."
LEAST_EXPLAINED = 0.5


def check_language_model(study: Study) -> list[Finding]:
    """The model's loss on a plain sentence, against that of guessing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(**study.pretrained).eval()
    tokenizer = AutoTokenizer.from_pretrained(**study.pretrained)
    ids = torch.tensor([tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        loss = float(model(input_ids=ids, labels=ids, use_cache=False).loss)
    guessing = math.log(model.config.vocab_size)
    return [
        Finding(
            "predicts",
            loss < guessing / 2,
            f"{loss:.2f} nats per token on a plain sentence; guessing costs {guessing:.2f}, and "
            "half of that is allowed",
        )
    ]


def check_prose(path: Path) -> list[Finding]:
    """Documents are there, have text, and differ."""
    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    empty = sum(not text for text in texts)
    repeated = len(texts) - len(set(texts))
    return [
        Finding(
            "documents",
            bool(texts) and not empty and not repeated,
            f"{len(texts):,} documents, {empty:,} without text, {repeated:,} equal to another; "
            "there must be some, none empty and none equal",
        )
    ]


def check_sae(folder: Path) -> list[Finding]:
    """What the SAE explains of tokens it was not trained on."""
    explained = json.loads((folder / "training.json").read_text(encoding="utf-8"))[
        "explained_variance"
    ]
    return [
        Finding(
            "reconstructs",
            explained >= LEAST_EXPLAINED,
            f"the SAE explains {explained:.1%} of the variance of fresh tokens; "
            f"{LEAST_EXPLAINED:.0%} is the least allowed: train it for longer (local.sae_steps) or "
            "with more latents",
        )
    ]
