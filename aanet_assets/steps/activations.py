"""From text to sparse codes: does the SAE fit, and the activation cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aanet_assets.steps.columns import REVISIONS, SAE_ID
from aanet_assets.steps.inputs import corpus, language_model, prose, sae
from aanet_assets.storage.partitions import ByShard, Whole
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, integer, listed, number, text
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

SAE_FIT = Table(
    "sae_fit",
    "What the SAE does on the corpus's first tokens.",
    SAE_ID,
    integer("tokens", "Tokens that were looked at."),
    integer("latents", "Latents of the SAE."),
    number("l0", "Mean number of active latents per token."),
    number("unexplained", "Share of the residual stream's variance that is left unexplained."),
    number("median_unexplained", "The same, of the median token."),
    number("largest_share", "Share of squared distances from the mean in the 1% largest tokens."),
    number("reconstruction_gap", "Largest relative distance of codes times rows from its output."),
    listed(integer("zero_rows", "Latents whose decoder row is zero.")),
    text("hook", "The hook that the SAE names."),
    number("hook_unexplained", "Median token's unexplained share at that hook."),
    text("best_hook", "The one of the hook and its neighbours that fits best."),
    number("best_unexplained", "Median token's unexplained share at the best hook."),
    listed(text("doubts", "Where the study differs from what the SAE says of its training.")),
    number("bytes_per_token", "Size of the activation cache."),
    *REVISIONS,
)
CACHE_SHARDS = Table(
    "cache_shards",
    "One row per shard of the activation cache.",
    integer("shard", "Number of the shard."),
    text("use", "training, or held out."),
    integer("first_document", "First document of the corpus that it has chunks of."),
    integer("last_document", "Last document of the corpus that it has chunks of."),
    integer("documents", "Documents that were read."),
    integer("empty", "Documents without text."),
    integer("too_long", "Documents that were passed over as too long."),
    integer("too_short", "Documents that fill no chunk."),
    integer("tokens_left_over", "Tokens after the last whole chunk of their documents."),
    integer("chunks", "Chunks of the shard."),
    integer("tokens", "Tokens of the shard, special ones included."),
    integer("counted_tokens", "Tokens that are not special, which carry codes."),
    number("l0", "Mean number of active latents per counted token."),
    integer("bytes", "Size of the file."),
    text("sha256", "Hash of the file."),
    text("made_from", "Digest of all that the shard follows from."),
    *REVISIONS,
)
SHARD = File("activation_cache/shard_{shard:05d}.safetensors")
BY_LATENT = File("codes_by_latent/shard_{shard:05d}.safetensors")
_BLOCK = File("activation_cache/.shard_{shard:05d}.*.blocks/*")
_PART_OF_BLOCK = File("activation_cache/.shard_{shard:05d}.*.blocks/*/*")


@step(
    Whole,
    group="1a_activations",
    of_activations=True,
    kinds=("huggingface", "pytorch"),
    on_device=True,
    reads=(corpus, language_model, prose, sae),
    settings=("model", "revision", "dtype", "sae", "corpus", "cache.seq_len", "cache.prepend_bos",
              "cache.max_doc_tokens", "fit"),
    tables=(SAE_FIT,),
    code_version="3",
)  # fmt: skip
def sae_fit(run: Run[Whole]) -> Outcome:
    """The SAE on the corpus's first tokens: active latents, and what it leaves unexplained.

    An SAE that belongs to another model, layer or dtype shows here, before any shard is made; so
    does one whose codes times decoder rows are not its reconstruction.
    """
    import pandas as pd

    from aanet_assets.science.activations.fit import estimate, measure_fit
    from aanet_assets.science.activations.preflight import doubts, preflight
    from aanet_assets.science.activations.sae_config import read_config

    preflight(run.study)
    fit, rate = measure_fit(run.study)
    row = {"sae_id": run.study.sae.name, **fit._asdict(), **run.study.revisions}
    row["doubts"] = doubts(run.study, read_config(run.study.sae))
    shown = {"tokens_per_second": rate, "activation_cache": estimate(run.study, fit, rate)}
    path = run.write(SAE_FIT, pd.DataFrame([row]))
    return Outcome([path], {"dagster/row_count": fit.tokens, **fit._asdict(), **shown})


@sae_fit.checks(
    active_latents="As many latents are active per token as the settings allow.",
    explains="The reconstruction leaves no more variance than the settings allow.",
    explains_most_tokens="Nor does it leave more of the median token.",
    is_the_reconstruction="Codes times decoder rows is the reconstruction.",
    right_layer="No layer beside the SAE's own fits clearly better.",
    warnings={
        "few_large_tokens": "No few tokens decide what variance there is.",
        "decoder_rows": "No decoder row is zero.",
        "says_the_same": "What the SAE says of its training holds in the study.",
    },
)
def _(run: Run[Whole]) -> list[Finding]:
    from aanet_assets.steps.checks.activations import check_fit

    return check_fit(run.read(SAE_FIT), run.study.fit)


@step(
    ByShard,
    group="1a_activations",
    of_activations=True,
    job="stage1_cache",
    kinds=("huggingface", "pytorch"),
    on_device=True,
    reads=(corpus, language_model, prose, sae, sae_fit),
    # Without the number of shards: more of them leave the old ones good.
    settings=("model", "revision", "dtype", "sae", "corpus", "cache.seq_len", "cache.prepend_bos",
              "cache.max_doc_tokens", "cache.documents_per_shard", "cache.tokens_per_shard",
              "cache.activity_threshold"),
    tables=(CACHE_SHARDS,),
    files=(SHARD, _BLOCK, _PART_OF_BLOCK),
    code_version="4",
)  # fmt: skip
def activation_cache(run: Run[ByShard]) -> Outcome:
    """Token ids and sparse SAE codes of one range of documents.

    The language model runs here up to the SAE's layer and no further. BOS and other special
    tokens carry no codes. The last shards are held out: they give vertex samples and train nothing.
    """
    import pandas as pd

    from aanet_assets.science.activations.build import build_shard, shard_row
    from aanet_assets.science.activations.corpus import Tally
    from aanet_assets.science.activations.encode import Encoder
    from aanet_assets.science.activations.preflight import preflight
    from aanet_assets.storage.kept import kept
    from aanet_assets.storage.records import made_from_digest

    study, shard, path, tally = run.study, run.at.shard, run.path(SHARD), Tally()
    preflight(study)
    digest = made_from_digest(study, run.partition)
    expected = run.read(SAE_FIT)["bytes_per_token"].iloc[0]
    resumed = build_shard(study, shard, path, digest, expected, tally, lambda _: kept(run, Encoder))
    row = shard_row(study, shard, path, tally, digest)
    table = run.write(CACHE_SHARDS, pd.DataFrame([row]))
    shown = {
        "documents_that_give_nothing": tally.dropped(study.cache),
        "chunks_from_an_interrupted_run": resumed,
    }
    return Outcome([path, table], {**_of_shard(row), **shown})


def _of_shard(row: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagit shows of a row of `cache_shards`."""
    return {
        "dagster/row_count": row["counted_tokens"],
        "chunks": row["chunks"],
        "active_latents_per_token": row["l0"],
        "bytes_per_token": row["bytes"] / row["tokens"],
        "use": row["use"],
    }


@activation_cache.checks(
    structure="The file can be read and its arrays fit together.",
    special_tokens_silent="BOS and other special tokens carry no codes.",
    codes_in_range="Codes are finite and not below the threshold of activity.",
    active_latents="Some latents are active per token, and few enough to be sparse.",
)
def _(run: Run[ByShard]) -> list[Finding]:
    from aanet_assets.steps.checks.activations import check_shard, special_ids_of

    cache, most = run.study.cache, run.study.fit.max_l0_share
    special = special_ids_of(run.study)
    return check_shard(run.path(SHARD), cache.seq_len, special, cache.activity_threshold, most)


training_cache = activation_cache.part(lambda study: study.training_shards)
"""The shards that train."""


@step(
    ByShard,
    group="1a_activations",
    of_activations=True,
    job="stage1_cache",
    kinds=("scipy",),
    reads=(activation_cache,),
    files=(BY_LATENT,),
)
def codes_by_latent(run: Run[ByShard]) -> Outcome:
    """The codes of one shard once more, latent by latent.

    From here clusters read their own latents' codes, and no step holds those of all tokens.
    """
    from aanet_assets.science.activations.by_latent import write_by_latent

    path = run.path(BY_LATENT)
    return Outcome([path], {"dagster/row_count": write_by_latent(run.path(SHARD), path)})


@codes_by_latent.checks(
    complete="Every latent and every token has as many codes as in the activation cache.",
    order="The tokens of a latent come in their order, each once.",
    values="The codes of a latent add up to the same.",
)
def _(run: Run[ByShard]) -> list[Finding]:
    from aanet_assets.steps.checks.activations import check_by_latent

    return check_by_latent(run.path(BY_LATENT), run.path(SHARD))


training_codes = codes_by_latent.part(lambda study: study.training_shards)
"""The codes of the shards that train."""


def training_shards(run: Run) -> list[Path]:
    """Files of the shards that train."""
    return [run.path(SHARD, shard=shard) for shard in run.study.training_shards]


def heldout_shards(run: Run) -> list[Path]:
    """Files of the shards that train nothing."""
    return [run.path(SHARD, shard=shard) for shard in run.study.heldout_shards]


def by_latent(run: Run, shards: range) -> list[Path]:
    """Files of some shards' codes, latent by latent."""
    return [run.path(BY_LATENT, shard=shard) for shard in shards]


def at_commits(study: Study, fitted: bool) -> Study:
    """The study with the commits of a hub that its partitions share.

    Args:
        fitted: whether `sae_fit` has looked them up already; else they are the newest.
    """
    from aanet_assets.science.activations.hub import at_revisions, newest, on_hub

    if not fitted or not on_hub(study):
        return newest(study)
    return at_revisions(study, Run(study, sae_fit.at()).read(SAE_FIT).to_dict("records")[0])
