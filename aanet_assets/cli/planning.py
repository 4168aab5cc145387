"""What a study will take: tokens, disk, memory and time, estimated without loading anything."""

import time
from typing import TYPE_CHECKING, NamedTuple

import joblib
import numpy as np
from rich.filesize import decimal

from aanet_assets.science.activations.by_latent import CODE_BYTES
from aanet_assets.science.activations.sae_config import parse_hook, read_config
from aanet_assets.science.selection.nulls import shuffles_for
from aanet_assets.steps.activations import SAE_FIT, sae_fit
from aanet_assets.storage.records import fetch_files
from aanet_assets.storage.run import Run
from aanet_assets.study.study import Study, resolve

if TYPE_CHECKING:
    from aanet_assets.science.activations.size import Size
    from aanet_assets.science.activations.supply import Supply

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
H100_FLOPS = 989e12
"""Dense bfloat16 multiply-adds and adds per second, by its data sheet."""
UTILISATION = {"cpu": 0.7, "cuda": 0.4}
"""Share of a machine's matrix speed that a forward pass reaches: on two CPU cores as measured with
SmolLM2 (0.76), on a GPU an assumption on the safe side."""
AANET_CPU_SECONDS = 0.62
"""Of one AANet on 50,000 rows at d_model 3584, measured (docs/engine.md)."""
AANET_BYTES = 4 * (2 * 64 + 1)
"""Of one exported AANet, per entry of d_model; its two wide layers are nearly all of it."""


class Latents(NamedTuple):
    """What is known of an SAE before it is loaded."""

    hook: str
    number: int
    l0: float | None
    """Active latents per token; None where nobody has said yet."""


class Plan(NamedTuple):
    """Estimates; sizes in bytes."""

    tokens: int
    """Tokens that go through the language model, each of them once."""
    supply: "Supply | None"
    """What local corpus files hold; None where there are none yet, or a dataset is read."""
    size: "Size"
    latents: Latents
    weights: int
    """Of the language model up to the hook, in the study's dtype."""
    working_memory: int
    """Weights, SAE and one batch on the device."""
    prediction_memory: int
    """All weights, and the logits of one pass, on the device."""
    edit_memory: int | None
    """All weights, what is kept of chunks, at most, and the logits of one pass, on the device; None
    of a study that edits nothing."""
    prediction_disk: int
    cache_disk: int | None
    """None where L0 is not known."""
    by_latent_disk: int | None
    """The same codes latent by latent."""
    rows_disk: int
    """Training rows of all clusterings, at most."""
    models_disk: int
    """AANets exported at full width."""
    flops: float
    """Of the passes through model and SAE."""
    prediction_flops: float
    """Of the passes of held-out tokens through the whole model."""
    speed: float
    """Floating-point operations per second that they are taken to run at."""
    speed_from: str
    aanets: int
    """AANets of stage 1."""
    replicates: int
    """Further AANets: replicates, and those of null clusters."""

    @property
    def prediction_seconds(self) -> float:
        """Time of the predictions."""
        return self.prediction_flops / self.speed

    @property
    def cache_seconds(self) -> float:
        """Time of the activation cache."""
        return self.flops / self.speed


def _training_seconds(aanets: int) -> float:
    """Time of so many AANets on this machine's cores, for clusters of the measured size."""
    return aanets * AANET_CPU_SECONDS / joblib.cpu_count()


def make_plan(study: Study) -> Plan:
    """Estimate what a study will take.

    Raises:
        ValueError: model or SAE are neither here nor described by the study, or its corpus's local
            files hold less than it asks for.
    """
    from aanet_assets.science.activations.predictions import chunks_at_once
    from aanet_assets.science.activations.size import config_of, size_of

    latents = _latents(study)
    size = size_of(config_of(study), parse_hook(latents.hook))
    cache = study.cache
    per_shard = cache.chunks_per_shard * cache.seq_len
    tokens, heldout = len(study.shards) * per_shard, len(study.heldout_shards) * per_shard
    logits = chunks_at_once(study, size.vocabulary) * cache.seq_len * size.vocabulary
    groups = min(study.predictions.groups, size.vocabulary)
    width = BYTES[study.dtype]
    batch = cache.batch_chunks * cache.seq_len
    per_token = (
        3 * 4 * latents.number
        + 3 * width * size.largest
        + (width + 4) * size.heads * cache.seq_len
        + 3 * width * size.d_model
    )
    sae = 2 * size.d_model * latents.number
    index = np.min_scalar_type(latents.number - 1).itemsize
    multiplied = size.multiplied + sae // 2
    speed, speed_from = _speed(study)
    clusters, copies = sum(study.n_clusters), study.controls.replicates
    shuffles_of_n = {n: shuffles_for(study.controls.nulls, n) for n in study.n_clusters}
    return Plan(
        tokens=tokens,
        supply=_supply(study),
        size=size,
        latents=latents,
        weights=width * size.read,
        working_memory=width * size.read + 4 * sae + batch * per_token,
        # In the model's type, in float32, as probabilities, and those once more by groups.
        prediction_memory=width * size.with_head + (width + 4 * 4) * logits,
        edit_memory=None if study.belief is None else _edit_memory(study, size, heldout),
        prediction_disk=(2 * groups + 4) * heldout,
        cache_disk=None if latents.l0 is None else int(tokens * ((2 + index) * latents.l0 + 10)),
        by_latent_disk=None if latents.l0 is None else int(tokens * (CODE_BYTES * latents.l0 + 4)),
        rows_disk=sum(
            4 * latents.number * min(study.rows.max_rows, tokens) * (1 + shuffles)
            for shuffles in shuffles_of_n.values()
        ),
        models_disk=clusters * len(study.ks) * AANET_BYTES * size.d_model
        if study.aanet.export_pt
        else 0,
        flops=2.0 * multiplied * tokens,
        prediction_flops=2.0 * size.to_predict * heldout,
        speed=speed,
        speed_from=speed_from,
        aanets=clusters * len(study.ks),
        # Stage 1 has one of them; as many null clusters have all.
        replicates=(2 * copies - 1) * clusters * len(study.ks) if copies > 1 else 0,
    )


def _edit_memory(study: Study, size: "Size", heldout: int) -> int:
    """Of the model's edits: all weights, what is kept of chunks, and the logits of one pass."""
    from aanet_assets.science.activations.size import config_of
    from aanet_assets.science.belief.editor import KEPT, LOGITS_AT_ONCE

    width, settings = BYTES[study.dtype], study.belief_settings
    # The stream, and keys and values of no more than its width in each layer.
    layers = config_of(study).get_text_config().num_hidden_layers
    per_token = 4 * size.d_model * (1 + 2 * layers)
    kept = min(KEPT, per_token * min(settings.tokens, heldout))
    edits = settings.edited_tokens * settings.edit_points
    logits = min(LOGITS_AT_ONCE, edits * size.vocabulary)
    return width * size.with_head + kept + (width + 4 * 4) * logits


def _supply(study: Study) -> "Supply | None":
    from aanet_assets.storage.inputs import files_like

    if study.corpus.files is None or study.makes_corpus:
        return None
    if not files_like(study.corpus.files):
        return None
    from aanet_assets.science.activations.corpus import load_tokenizer
    from aanet_assets.science.activations.preflight import sae_wants_bos
    from aanet_assets.science.activations.supply import check_supply

    try:
        tokenizer = load_tokenizer(study, local_files_only=True)
    except OSError:
        tokenizer = None
    return check_supply(study.corpus, study.cache, tokenizer, bool(sae_wants_bos(study)))


def _latents(study: Study) -> Latents:
    """From the SAE's directory, or as the study states it; L0 as measured, where it was."""
    directory = study.sae.directory and resolve(study.sae.directory)
    if directory and (directory / "cfg.json").is_file():
        config = read_config(study.sae)
        found = Latents(str(config.metadata.hook_name), config.d_sae, getattr(config, "k", None))
    elif study.local is not None:
        hook = f"blocks.{study.local.layer}.hook_resid_post"
        found = Latents(hook, study.local.latents, study.local.active)
    elif study.hub is not None:
        found = Latents(study.hub.hook, study.hub.latents, study.hub.l0)
    else:
        raise ValueError(
            f"the SAE {study.sae.name!r} is not on this machine, and the study does not say how "
            "large it is: give the study hub=HubSettings(...), as "
            "aanet_assets/defs/gemma_2_9b.py does"
        )
    fetch_files(study, [sae_fit.at()])
    try:
        measured = Run(study, sae_fit.at()).read(SAE_FIT)
    except FileNotFoundError:
        return found
    return found._replace(l0=float(measured["l0"].iloc[0]))


def _speed(study: Study) -> tuple[float, str]:
    """Speed of a forward pass, and what it was estimated from: this machine's matrix product."""
    import torch

    share = UTILISATION[study.device]
    if study.device == "cuda" and not torch.cuda.is_available():
        return (
            share * H100_FLOPS,
            f"{share:.0%} of an H100 by its data sheet, as there is no CUDA device here",
        )
    return (
        share * matrix_speed(study, study.device),
        f"{share:.0%} of this machine's matrix product, just measured",
    )


def matrix_speed(study: Study, device: str) -> float:
    """Operations per second of a large matrix product on all of this machine, in the dtype.

    Products grow until one takes a tenth of a second: a CPU without bfloat16 of its own would
    need a minute for the largest.
    """
    import torch

    from aanet_assets.study.threads import torch_threads

    best = 0.0
    with torch_threads():
        for side in (128, 256, 512, 1024, 2048, 4096, 8192):
            matrix = torch.ones(side, side, dtype=getattr(torch, study.dtype), device=device)
            float((matrix @ matrix)[0, 0])  # the first of a size also finds out how to do it
            started = time.perf_counter()
            float((matrix @ matrix)[0, 0])
            seconds = time.perf_counter() - started
            best = max(best, 2 * side**3 / seconds)
            if seconds > 0.1:
                break
    return best


def rows_of(plan: Plan) -> list[tuple[str, str, str]]:
    """The plan for people: what, how much, from what."""
    size, latents = plan.size, plan.latents
    l0 = (
        "the asset sae_fit measures how many latents are active"
        if latents.l0 is None
        else f"{latents.l0:,.1f} active latents per token"
    )
    return [
        ("tokens", f"{plan.tokens:,}", "each once through the language model"),
        (
            "corpus",
            "not known yet" if plan.supply is None else f"{plan.supply.documents:,} documents",
            "documents of local files are counted, as many as the study reads"
            if plan.supply is None
            else plan.supply.said,
        ),
        (
            "language model",
            decimal(plan.weights),
            f"{size.read / 1e6:,.1f} of {size.everything / 1e6:,.1f} million parameters are "
            f"loaded, up to {latents.hook}; a hub's whole copy takes two or four bytes each",
        ),
        (
            "memory at work",
            decimal(plan.working_memory),
            f"weights, an SAE of {latents.number:,} latents, one batch; "
            "on the GPU where the study has one",
        ),
        (
            "activation cache",
            "not known yet" if plan.cache_disk is None else decimal(plan.cache_disk),
            l0,
        ),
        (
            "codes by latent",
            "not known yet" if plan.by_latent_disk is None else decimal(plan.by_latent_disk),
            "the same codes once more, for clusters to read their own",
        ),
        ("time of the cache", duration(plan.cache_seconds), _arithmetic(plan, plan.flops)),
        (
            "predictions",
            decimal(plan.prediction_disk),
            "at most, of the held-out tokens (predictions.groups)",
        ),
        (
            "memory of predictions",
            decimal(plan.prediction_memory),
            f"all {plan.size.with_head / 1e6:,.1f} million parameters, and logits of one pass",
        ),
        (
            "time of predictions",
            duration(plan.prediction_seconds),
            _arithmetic(plan, plan.prediction_flops),
        ),
        *(
            ()
            if plan.edit_memory is None
            else [
                (
                    "memory of edits",
                    decimal(plan.edit_memory),
                    "all parameters, what is kept of edited chunks, at most, logits of one pass",
                )
            ]
        ),
        *(_rows_of_clusters(plan) if plan.aanets else ()),
    ]


def _rows_of_clusters(plan: Plan) -> list[tuple[str, str, str]]:
    """What activations alone do not have."""
    return [
        (
            "training rows",
            decimal(plan.rows_disk),
            "at most, all clusterings, null clusters included",
        ),
        (
            "AANets",
            decimal(plan.models_disk),
            f"{plan.aanets:,} exported at full width (aanet.export_pt)",
        ),
        (
            "time of the AANets",
            duration(_training_seconds(plan.aanets)),
            f"at {AANET_CPU_SECONDS} CPU seconds each on {joblib.cpu_count()} cores, as measured "
            "for 50,000 rows a cluster at d_model 3584",
        ),
        (
            "time of the replicates",
            duration(_training_seconds(plan.replicates)),
            f"{plan.replicates:,} further AANets, those of null clusters among them "
            "(controls.replicates)",
        ),
    ]


def _arithmetic(plan: Plan, flops: float) -> str:
    return f"{flops:.2g} operations at {plan.speed / 1e12:,.3g} TFLOP/s ({plan.speed_from})"


def duration(seconds: float) -> str:
    """A time in the unit that people would use."""
    if seconds < 90:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
