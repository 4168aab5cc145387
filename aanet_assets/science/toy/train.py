"""Building a shipped toy: transformer, SAE and a record of how good they are, in one folder."""

import json
import math
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from aanet_assets.science.activations.sae_training import BATCH, sae_quality
from aanet_assets.science.toy import sae, transformer
from aanet_assets.science.toy.own_process import KnownProcess
from aanet_assets.science.toy.process import PROCESSES, UnionProcess
from aanet_assets.science.toy.process_file import process_of
from aanet_assets.science.toy.sae import train_topk_sae
from aanet_assets.science.toy.transformer import (
    LENGTH,
    make_tokenizer,
    quality,
    residuals,
    train_transformer,
)
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.study import process_path
from aanet_assets.study.threads import torch_threads

LAYER = 2  # the last: beliefs are read best there


class Recipe(NamedTuple):
    """What differs between the toys."""

    folder: str
    """Where the toy is shipped, relative to the project's folder."""
    process: KnownProcess
    width: int
    """Of the transformer's residual stream."""
    latents: int
    active: int
    """Latents active per token."""


RECIPES = {
    "union7": Recipe("data/inputs/toy", PROCESSES["union7"], 64, 32, 3),
    "union22": Recipe("data/inputs/toy_large", PROCESSES["union22"], 128, 128, 3),
    "product5": Recipe("data/inputs/toy_product", PROCESSES["product5"], 64, 17, 5),
}
"""By the names of their processes."""


def recipe_of(process: str) -> Recipe:
    """How the toy of a process is built: a shipped one by its name, or one's own.

    The SAE of a process of one's own has a quarter more latents than letters, up to a power of two.

    Raises:
        ValueError: there is no such process; says what is wrong.
    """
    if process in RECIPES:
        return RECIPES[process]
    if not process.endswith(".json") and ":" not in process:
        raise ValueError(
            f"there is no process {process!r}: give one of {', '.join(PROCESSES)}, a JSON file of "
            "hidden Markov models, or module:Class"
        )
    own = process_of(process)
    latents = max(32, 2 ** math.ceil(math.log2(1.25 * len(own.letters))))
    return Recipe(f"data/inputs/{process_path(process).stem}", own, max(64, latents), latents, 3)


def _switching(process: KnownProcess) -> dict[str, float]:
    return {"switch_rate": process.switch_rate} if isinstance(process, UnionProcess) else {}


def sae_metadata(recipe: Recipe) -> dict[str, str | int | bool]:
    """What the SAE's file says about where it belongs."""
    return {
        "model_name": f"{recipe.folder}/model",
        "hook_name": f"blocks.{LAYER}.hook_resid_post",
        "prepend_bos": True,
        "context_size": LENGTH + 1,
    }


def train_toy(
    folder: Path,
    recipe: Recipe = RECIPES["union7"],
    *,
    steps: int = 4_000,
    sae_documents: int = 32_768,
    sae_steps: int = 1_500,
    seed: int = 0,
    sae_seed: int = 10,
) -> None:
    """Train transformer and SAE and write `model/`, `sae/` and `training.json` into `folder`.

    Uses one thread, so that equal arguments give equal weights on one machine; about 7 minutes for
    union7, 17 for union22. An earlier toy in `folder` is replaced, once the new one is complete.
    Of union7 the SAE's seed is the one of many whose clusters mix components least; see
    docs/toy.md.
    """
    process = recipe.process
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        torch_threads(1),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch,
    ):
        built = Path(scratch)
        fresh = process.sample(10_000, LENGTH, seed_for(seed, "evaluation"))

        started = time.monotonic()
        weights = seed_for(seed, "transformer")
        model = train_transformer(process, steps, weights, width=recipe.width)
        model.save_pretrained(built / "model")
        make_tokenizer(process).save_pretrained(built / "model")
        model_record = {
            **quality(model, process, fresh)._asdict(),
            "width": recipe.width,
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
        trained_sae = train_topk_sae(
            activations,
            sae_steps,
            fixed,
            sae_metadata(recipe),
            latents=recipe.latents,
            active=recipe.active,
        )
        trained_sae.save_inference_model(built / "sae")
        sae_record = {
            **sae_quality(trained_sae, residuals(model, process, fresh, LAYER))._asdict(),
            "latents": recipe.latents,
            "latents_active": recipe.active,
            "steps": sae_steps,
            "tokens_per_step": BATCH,
            "training_tokens": sae_documents * LENGTH,
            "lr": sae.LR,
            "seed": sae_seed,
            "seconds": round(time.monotonic() - started),
        }

        record = {
            "process": {"components": process.names, **_switching(process)},
            "transformer": model_record,
            "sae": sae_record,
        }
        (built / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for part in built.iterdir():
            # A folder cannot be renamed onto one that has files.
            shutil.rmtree(folder / part.name, ignore_errors=True)
            os.replace(part, folder / part.name)
