"""Building the shipped toy: transformer, SAE and a record of how good they are, in one folder."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from aanet_assets.lm.sae_training import BATCH, sae_quality
from aanet_assets.seeds import seed_for
from aanet_assets.threads import torch_threads
from aanet_assets.toy import sae, transformer
from aanet_assets.toy.process import UNION7, UnionProcess
from aanet_assets.toy.sae import train_topk_sae
from aanet_assets.toy.transformer import (
    LENGTH,
    make_tokenizer,
    quality,
    residuals,
    train_transformer,
)

LAYER = 2  # the last: beliefs are read best there
SAE_METADATA = {
    "model_name": "data/inputs/toy/model",
    "hook_name": f"blocks.{LAYER}.hook_resid_post",
    "prepend_bos": True,
    "context_size": LENGTH + 1,
}


def train_toy(
    folder: Path,
    process: UnionProcess = UNION7,
    *,
    steps: int = 4_000,
    sae_documents: int = 32_768,
    sae_steps: int = 1_500,
    seed: int = 0,
    sae_seed: int = 10,
) -> None:
    """Train transformer and SAE and write `model/`, `sae/` and `training.json` into `folder`.

    Uses one thread, so that equal arguments give equal weights on one machine; about 7 minutes.
    An earlier toy in `folder` is replaced, once the new one is complete. The SAE's seed is the one
    of many whose clusters mix components least; see docs/toy.md.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        torch_threads(1),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch,
    ):
        built = Path(scratch)
        fresh = process.sample(10_000, LENGTH, seed_for(seed, "evaluation"))

        started = time.monotonic()
        model = train_transformer(process, steps, seed_for(seed, "transformer"))
        model.save_pretrained(built / "model")
        make_tokenizer(process).save_pretrained(built / "model")
        model_record = {
            **quality(model, process, fresh)._asdict(),
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps": steps,
            "documents_per_step": transformer.BATCH,
            "letters_per_document": LENGTH,
            "lr": transformer.LR,
            "seed": seed,
            "seconds": round(time.monotonic() - started),
        }

        started = time.monotonic()
        documents = process.sample(sae_documents, LENGTH, seed_for(seed, "sae documents"))
        activations = residuals(model, process, documents, LAYER)
        fixed = seed_for(sae_seed, "sae")
        trained_sae = train_topk_sae(activations, sae_steps, fixed, SAE_METADATA)
        trained_sae.save_inference_model(built / "sae")
        sae_record = {
            **sae_quality(trained_sae, residuals(model, process, fresh, LAYER))._asdict(),
            "latents": sae.LATENTS,
            "latents_active": sae.ACTIVE,
            "steps": sae_steps,
            "tokens_per_step": BATCH,
            "training_tokens": sae_documents * LENGTH,
            "lr": sae.LR,
            "seed": sae_seed,
            "seconds": round(time.monotonic() - started),
        }

        record = {
            "process": {"components": process.names, "switch_rate": process.switch_rate},
            "transformer": model_record,
            "sae": sae_record,
        }
        (built / "training.json").write_text(json.dumps(record, indent=2) + "\n")
        folder.mkdir(exist_ok=True)
        for part in built.iterdir():
            # A folder cannot be renamed onto one that has files.
            shutil.rmtree(folder / part.name, ignore_errors=True)
            os.replace(part, folder / part.name)
