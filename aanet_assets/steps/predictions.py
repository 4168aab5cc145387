"""What the language model itself predicts at the held-out tokens."""

from aanet_assets.steps.activations import SHARD, activation_cache, training_cache, training_shards
from aanet_assets.steps.inputs import language_model
from aanet_assets.storage.partitions import ByHeldoutShard, Whole
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, integer, number, text
from aanet_assets.study.layout import File

TOKEN_GROUPS = Table(
    "token_groups",
    "The model's vocabulary, and the groups into which its predictions are summed.",
    integer("token_id", "Id of the token."),
    text("token", "The token, as the vocabulary spells it; null where it has none of this id."),
    integer("training_tokens", "How often it is a counted token of the training shards."),
    integer("group_id", "Its group, from 0 on."),
)
PREDICTION_FIT = Table(
    "prediction_fit",
    "How well the model predicts the held-out tokens, one row per shard.",
    integer("shard", "Number of the shard."),
    integer("tokens", "Counted tokens, each of which has a predicted distribution."),
    integer("groups", "Groups of tokens that it is over."),
    integer("followed_tokens", "Those of them after which their chunk goes on."),
    number("cross_entropy", "Mean surprise at the token that follows, in nats, by the model."),
    number("unigram_cross_entropy", "The same by the frequency of tokens in the training shards."),
)
PREDICTIONS = File("predictions/shard_{shard:05d}.safetensors")
_BLOCK = File("predictions/.shard_{shard:05d}.*.blocks/*")
_PART_OF_BLOCK = File("predictions/.shard_{shard:05d}.*.blocks/*/*")


@step(
    Whole,
    group="1a_activations",
    of_activations=True,
    kinds=("pandas", "duckdb"),
    reads=(language_model, training_cache),
    settings=("model", "revision", "predictions"),
    tables=(TOKEN_GROUPS,),
)
def token_groups(run: Run[Whole]) -> Outcome:
    """Groups of tokens: the most frequent ones alone, all others together in many groups."""
    from aanet_assets.science.activations.architecture import load_config
    from aanet_assets.science.activations.corpus import load_tokenizer
    from aanet_assets.science.activations.groups import group_table
    from aanet_assets.science.activations.shards import token_counts

    study, vocabulary = run.study, load_config(run.study).get_text_config().vocab_size
    counts = token_counts(training_shards(run), vocabulary)
    table = group_table(counts, load_tokenizer(study).get_vocab(), study.predictions.groups)
    groups = int(table["group_id"].max()) + 1
    return Outcome(
        [run.write(TOKEN_GROUPS, table)], {"dagster/row_count": vocabulary, "groups": groups}
    )


@token_groups.checks(groups="Every token has a group, and every group a token.")
def _(run: Run[Whole]) -> list[Finding]:
    from aanet_assets.steps.checks.predictions import check_groups

    return check_groups(run.read(TOKEN_GROUPS), run.study.predictions.groups)


@step(
    ByHeldoutShard,
    group="1a_activations",
    of_activations=True,
    job="stage1_predictions",
    kinds=("huggingface", "pytorch"),
    on_device=True,
    reads=(language_model, activation_cache, token_groups),
    settings=("model", "revision", "dtype"),
    tables=(PREDICTION_FIT,),
    files=(PREDICTIONS, _BLOCK, _PART_OF_BLOCK),
)
def predictions(run: Run[ByHeldoutShard]) -> Outcome:
    """The model's next-token distribution at each counted token of a held-out shard, by groups.

    The whole model runs here, head included, once over these tokens. Rows are in the order of the
    shard's counted tokens. The residual stream is not kept: what edits it runs the model up to
    there again, for the few tokens that it edits.
    """
    import numpy as np
    import pandas as pd

    from aanet_assets.science.activations.predictions import build_predictions, fit_of
    from aanet_assets.science.activations.preflight import preflight
    from aanet_assets.science.activations.upper import WholeModel
    from aanet_assets.storage.kept import kept
    from aanet_assets.storage.records import made_from_digest

    study, shard, path = run.study, run.at.shard, run.path(PREDICTIONS)
    preflight(study)
    cached, table = run.path(SHARD, shard=shard), run.read(TOKEN_GROUPS)
    groups, counts = (table[name].to_numpy(np.int64) for name in ("group_id", "training_tokens"))
    digest = made_from_digest(study, run.partition)
    resumed = build_predictions(
        study, cached, path, digest, groups, lambda _: kept(run, WholeModel)
    )
    fit = fit_of(path, cached, groups, counts)
    table = run.write(PREDICTION_FIT, pd.DataFrame([{"shard": shard, **fit}]))
    shown = {"dagster/row_count": fit["tokens"], "chunks_from_an_interrupted_run": resumed}
    return Outcome([path, table], {**shown, **fit})


@predictions.checks(
    structure="The file can be read and has one row per counted token of the shard.",
    distributions="Probabilities are finite, not below 0, and those of a token sum to 1.",
    warnings={"predicts": "The model predicts better than the frequency of tokens does."},
)
def _(run: Run[ByHeldoutShard]) -> list[Finding]:
    from aanet_assets.steps.checks.predictions import check_predictions

    cached = run.path(SHARD, shard=run.at.shard)
    return check_predictions(run.path(PREDICTIONS), cached, run.read(PREDICTION_FIT))
