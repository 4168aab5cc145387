"""Whether the model uses a simplex as beliefs: its predictions, their updates, and edits."""

from typing import TYPE_CHECKING, Any

from aanet_assets.steps import pictures
from aanet_assets.steps.aanets import STACK, aanet_models
from aanet_assets.steps.activations import SHARD, activation_cache
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, ROWS, cluster_rows, clustering
from aanet_assets.steps.columns import CLUSTER_ID, IS_NULL, N_CLUSTERS_TOTAL, N_LATENTS, K
from aanet_assets.steps.evidence import (
    CLUSTER_SHAPES,
    NULL_CLUSTERING,
    NULL_CLUSTERS,
    NULL_ROWS,
    SHAPE_SETTINGS,
    cluster_shapes,
    null_clusters,
)
from aanet_assets.steps.inputs import language_model
from aanet_assets.steps.predictions import (
    PREDICTIONS,
    TOKEN_GROUPS,
    predictions,
    token_groups,
)
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Column, Table, integer, number, text
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pandas as pd

    from aanet_assets.belief.heldout import Heldout, Simplex
    from aanet_assets.toy.truth import Truth

SIMPLICES = File("clusters_{n}/simplices.safetensors")
CHAIN_PLOT = File("clusters_{n}/plots/belief_chains_n{n}.png")
UNAVAILABLE = text("unavailable", "Why statistics are null; empty where none is.")
_OF_CLUSTER = (N_CLUSTERS_TOTAL, CLUSTER_ID, IS_NULL, N_LATENTS, K)
KL_EXPLAINED = number(
    "kl_explained",
    "Share of the divergence of predictions from their mean that a mixture explains.",
)
PREDICTION_R2 = number("prediction_r2", "R^2 of next-token probabilities by the operators.")
TWO_STEP_R2 = number("two_step_r2", "R^2 of the coordinates two tokens later by two operators.")
INT_R2 = number("int_r2", "R^2 of predictions under edits by a mixture of those at the vertices.")
CONTEXT = number("context", "Share of their variance that is due to the token that was edited.")
MOVED = number("moved", "Mean divergence by which edits move predictions, in nats.")
REACHED = number("reached", "Share of the way to what follows at the vertex that was steered to.")
KL_EXPLAINED_LOW = number("kl_explained_low", "Lower end of its 95% interval, by documents.")
KL_EXPLAINED_HIGH = number("kl_explained_high", "Upper end of it.")
SIMPLEX_FITS = Table(
    "simplex_fits",
    "The simplex of each cluster, real or null, at the k that fits best.",
    *_OF_CLUSTER,
    number("fit", "How well it fits, as in cluster_shapes."),
    number("agreement_spa", "R^2 of its coordinates by those of successive projections."),
    number("agreement_aanet", "R^2 of its coordinates by those in the AANet's vertices."),
    UNAVAILABLE,
)
BARYCENTRIC_PREDICTION = Table(
    "barycentric_prediction",
    "Whether next-token distributions are mixtures over the vertices of each cluster's simplex.",
    *_OF_CLUSTER,
    integer("tokens", "Held-out tokens at which the cluster is active."),
    KL_EXPLAINED,
    KL_EXPLAINED_LOW,
    KL_EXPLAINED_HIGH,
    number("mixture_r2", "R^2 of the probabilities by the mixture."),
    number("token_kl_explained", "The share that the current token alone explains."),
    number("permuted_kl_explained", "The same with coordinates permuted among equal tokens."),
    number("latents_kl_explained", "The share that all latents of the cluster explain."),
    number("best_latent_kl_explained", "The share that the best single latent explains."),
    number("sufficiency", "What the mixture explains of what all latents do."),
    text("component", "Component of a known process whose states the vertices are."),
    number("belief_r2", "R^2 of its beliefs by the coordinates as they are."),
    UNAVAILABLE,
)
BELIEF_UPDATE = Table(
    "belief_update",
    "Whether coordinates update as beliefs of a hidden Markov chain do.",
    *_OF_CLUSTER,
    integer("tokens", "Held-out tokens at which the cluster is active."),
    integer("operators", "Tokens that follow often enough to have an operator."),
    PREDICTION_R2,
    TWO_STEP_R2,
    number("beyond_tokens", "Share of the error of the two tokens alone that it has not."),
    number("covered", "Share of the tokens that follow that have an operator."),
    number("operator_error", "Relative error of the operators of a known process."),
    UNAVAILABLE,
)
BELIEF_CHAINS = Table(
    "belief_chains",
    "The hidden chain of each cluster: transitions between its vertices.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    K,
    integer("from_vertex", "Vertex that it moves from."),
    integer("to_vertex", "Vertex that it moves to."),
    number("probability", "Of that, as long as the cluster stays active."),
    number("low", "Lower end of its 95% interval, by documents."),
    number("high", "Upper end of it."),
    number("true_probability", "The same of a known process."),
    number("stays", "Probability that the cluster stays active, from the first vertex."),
    number("stationary", "Share of its time that the chain spends at the first vertex."),
    number("stationary_low", "Lower end of its 95% interval, by documents."),
    number("stationary_high", "Upper end of it."),
)
INTERVENTIONAL_MIXTURE = Table(
    "interventional_mixture",
    "Whether predictions follow coordinates that are put in place of a token's own.",
    *_OF_CLUSTER,
    integer("tokens", "Tokens that were edited."),
    INT_R2,
    CONTEXT,
    MOVED,
    UNAVAILABLE,
)
VERTEX_STEERING = Table(
    "vertex_steering",
    "Tokens near one vertex put at every other: how far predictions go to what follows there.",
    *_OF_CLUSTER,
    integer("tokens", "Tokens that were steered."),
    REACHED,
    number("kl_before", "Mean divergence from what follows there, in nats, before."),
    number("kl_after", "The same after."),
    number("random", "Share of the way by a random direction of the same length."),
    number("random_in_span", "The same by one within the cluster's subspace."),
    number("removed", "The same with nothing in the place of what the cluster writes."),
    number("other_cluster", "The same along an edge of another cluster's simplex."),
    number("true_reached", "Share of the way to the exact distribution of a known state."),
    number("true_kl_after", "Divergence from that after steering, in nats."),
    UNAVAILABLE,
)
VERTEX_KL = Table(
    "vertex_kl",
    "How far predictions near different vertices are apart, in nats: one token per document.",
    *_OF_CLUSTER,
    integer("tokens", "Tokens that were compared."),
    number("between", "Mean divergence of pairs near different vertices."),
    number("within", "Of pairs near one vertex."),
    number("same_token_between", "Of pairs of equal tokens near different vertices."),
    number("same_token_within", "Of pairs of equal tokens near one vertex."),
    UNAVAILABLE,
)
FUNCTIONAL_EVIDENCE = Table(
    "functional_evidence",
    "What the model does with each cluster's simplex, compared with null clusters.",
    *_OF_CLUSTER,
    KL_EXPLAINED,
    KL_EXPLAINED_LOW,
    KL_EXPLAINED_HIGH,
    PREDICTION_R2,
    TWO_STEP_R2,
    INT_R2,
    CONTEXT,
    MOVED,
    REACHED,
    *(
        number(f"{name}_{letter}", f"{letter}-value of {name} among null clusters of like size.")
        for name in ("kl_explained", "prediction_r2", "two_step_r2", "int_r2", "moved")
        for letter in "pq"
    ),
    UNAVAILABLE,
)


def uses_belief(study: Study) -> bool:
    """Of studies that ask whether the model uses the simplices."""
    return study.belief is not None


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("numpy", "duckdb"),
    when=uses_belief,
    reads=(clustering, cluster_rows, null_clusters, cluster_shapes, aanet_models),
    settings=("rows.seed", "aanet.widths", "aanet.simplex_scale",
              *SHAPE_SETTINGS),
    tables=(SIMPLEX_FITS,),
    files=(SIMPLICES,),
)  # fmt: skip
def simplex_fits(run: Run[ByN]) -> Outcome:
    """The simplex of each cluster, real or null, in closed form, at the k that fits best."""
    from aanet_assets.belief.heldout import save_simplices
    from aanet_assets.belief.tables import fitted

    rows = {
        False: (run.path(ROWS), run.path(CLUSTERING)),
        True: (run.path(NULL_ROWS), run.path(NULL_CLUSTERING)),
    }
    stacks = {k: run.path(STACK, k=k) for k in run.study.ks}
    table, found = fitted(run.study, run.at.n, run.read(CLUSTER_SHAPES), rows, stacks)
    save_simplices(run.path(SIMPLICES), found)
    return _outcome(run, SIMPLEX_FITS, table, [run.path(SIMPLICES)])


@simplex_fits.checks(complete="Every cluster, real or null, has one row: a simplex or a reason.")
def _(run: Run[ByN]) -> list[Finding]:
    return _check(run, SIMPLEX_FITS)


_HELDOUT = (activation_cache, predictions, token_groups)
PLACED = (clustering, cluster_rows, null_clusters, simplex_fits, *_HELDOUT)
PLACED_SETTINGS = ("rows.max_norm_ratio", "belief.tokens", "belief.seed")


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("numpy", "duckdb"),
    when=uses_belief,
    reads=PLACED,
    settings=(*PLACED_SETTINGS, "belief.scored_tokens", "truth.process"),
    tables=(BARYCENTRIC_PREDICTION,),
)
def barycentric_prediction(run: Run[ByN]) -> Outcome:
    """Whether next-token distributions are mixtures over the vertices of each simplex.

    Beside it stand what the current token alone explains, coordinates permuted among equal tokens,
    the best latent, and all latents, which bound it.
    """
    from aanet_assets.belief.tables import prediction_rows

    heldout, simplices, truth = placed_clusters(run)
    rows = prediction_rows(heldout, simplices, run.study.belief_settings, truth)
    return _outcome(run, BARYCENTRIC_PREDICTION, _frame(rows))


@barycentric_prediction.checks(complete="Every cluster with a simplex has numbers or a reason.")
def _(run: Run[ByN]) -> list[Finding]:
    return _check(run, BARYCENTRIC_PREDICTION)


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("scipy", "duckdb"),
    when=uses_belief,
    reads=PLACED,
    settings=(*PLACED_SETTINGS, "belief.pairs", "truth.process"),
    tables=(BELIEF_UPDATE, BELIEF_CHAINS),
    files=(CHAIN_PLOT,),
)
def belief_update(run: Run[ByN]) -> Outcome:
    """Whether coordinates update as the beliefs of a hidden Markov chain do, and which chain it is.

    One operator per token, by non-negative least squares; two of them must compose.
    """
    import pandas as pd

    from aanet_assets.belief.tables import chain_rows, update_rows
    from aanet_assets.review.chain_plot import write_chain_plot

    heldout, simplices, truth = placed_clusters(run)
    table = _frame(update_rows(heldout, simplices, run.study.belief_settings, truth))
    names = [name for name in BELIEF_CHAINS.names if name != "n_clusters_total"]
    found = list(chain_rows(heldout, simplices, run.study.belief_settings, truth))
    chains = pd.DataFrame(found, columns=names).assign(n_clusters_total=run.at.n)
    picture = run.path(CHAIN_PLOT)
    write_chain_plot(picture, chains, run.at.n)
    outcome = _outcome(run, BELIEF_UPDATE, table, [run.write(BELIEF_CHAINS, chains), picture])
    return Outcome(outcome.files, {**outcome.metadata, "chains": pictures.thumbnail(picture)})


@belief_update.checks(
    complete="Every cluster with a simplex has numbers or a reason.",
    chains="Transitions are probabilities.",
    drawn="The picture is a PNG file that shows something.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.plots import drawn

    found = run.read(BELIEF_CHAINS)
    total = found.groupby(["cluster_id", "from_vertex"])["probability"].sum()
    wrong = int(((total - 1).abs() > 1e-6).sum())
    said = f"{wrong} vertices have transitions that do not sum to 1; none may"
    return [
        *_check(run, BELIEF_UPDATE),
        Finding("chains", not wrong, said),
        drawn([run.path(CHAIN_PLOT)]),
    ]


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("pytorch", "duckdb"),
    on_device=True,
    when=uses_belief,
    reads=(language_model, *PLACED),
    settings=(*PLACED_SETTINGS, "model", "revision", "dtype", "sae", "belief.edited_tokens",
              "belief.edit_points"),
    tables=(INTERVENTIONAL_MIXTURE,),
)  # fmt: skip
def interventional_mixture(run: Run[ByN]) -> Outcome:
    """Whether predictions follow coordinates that are put in place of a token's own.

    What the cluster writes at one token is replaced by points of its simplex, and the layers above
    are run: predictions must be mixtures of those at the vertices, and hardly depend on the token.
    """
    from aanet_assets.belief.editor import Editor
    from aanet_assets.belief.tables import edit_rows

    heldout, simplices, _ = placed_clusters(run)
    editor = Editor(run.study, heldout, _groups(run))
    rows = edit_rows(heldout, simplices, run.study.belief_settings, editor)
    return _outcome(run, INTERVENTIONAL_MIXTURE, _frame(rows))


@interventional_mixture.checks(complete="Every cluster with a simplex has numbers or a reason.")
def _(run: Run[ByN]) -> list[Finding]:
    return _check(run, INTERVENTIONAL_MIXTURE)


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("pytorch", "duckdb"),
    on_device=True,
    when=uses_belief,
    reads=(language_model, *PLACED),
    settings=(*PLACED_SETTINGS, "model", "revision", "dtype", "sae", "belief.near_tokens",
              "truth.process"),
    tables=(VERTEX_STEERING,),
)  # fmt: skip
def vertex_steering(run: Run[ByN]) -> Outcome:
    """Tokens near one vertex, put at every other: how far predictions go to what follows there.

    Beside it: random directions, another cluster's, and nothing in the place of what is written.
    Null clusters reach their own vertices, too; it is the size of the effect that steering tells.
    """
    from aanet_assets.belief.editor import Editor
    from aanet_assets.belief.tables import steering_rows

    heldout, simplices, truth = placed_clusters(run)
    editor = Editor(run.study, heldout, _groups(run))
    rows = steering_rows(heldout, simplices, run.study.belief_settings, editor, truth)
    return _outcome(run, VERTEX_STEERING, _frame(rows))


@vertex_steering.checks(complete="Every cluster with a simplex has numbers or a reason.")
def _(run: Run[ByN]) -> list[Finding]:
    return _check(run, VERTEX_STEERING)


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("numpy", "duckdb"),
    when=uses_belief,
    reads=PLACED,
    settings=(*PLACED_SETTINGS, "belief.near_tokens"),
    tables=(VERTEX_KL,),
)
def vertex_kl(run: Run[ByN]) -> Outcome:
    """How far predictions near different vertices are apart: one token per document."""
    from aanet_assets.belief.tables import contrast_rows

    heldout, simplices, _ = placed_clusters(run)
    return _outcome(
        run, VERTEX_KL, _frame(contrast_rows(heldout, simplices, run.study.belief_settings))
    )


@vertex_kl.checks(complete="Every cluster with a simplex has numbers or a reason.")
def _(run: Run[ByN]) -> list[Finding]:
    return _check(run, VERTEX_KL)


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("scipy", "duckdb"),
    when=uses_belief,
    reads=(simplex_fits, barycentric_prediction, belief_update, interventional_mixture,
           vertex_steering),
    tables=(FUNCTIONAL_EVIDENCE,),
)  # fmt: skip
def functional_evidence(run: Run[ByN]) -> Outcome:
    """What the model does with each cluster's simplex, with p- and q-values against null ones."""
    from aanet_assets.belief.evidence import gather

    tables = (BARYCENTRIC_PREDICTION, BELIEF_UPDATE, INTERVENTIONAL_MIXTURE, VERTEX_STEERING)
    table = gather(run.read(SIMPLEX_FITS), [run.read(one) for one in tables])
    return _outcome(run, FUNCTIONAL_EVIDENCE, table)


@functional_evidence.checks(complete="Every cluster, real or null, has one row.")
def _(run: Run[ByN]) -> list[Finding]:
    return _check(run, FUNCTIONAL_EVIDENCE)


def placed_clusters(run: Run[ByN]) -> "tuple[Heldout, list[Simplex], Truth | None]":
    """Held-out tokens, the clusters that have a simplex, and the truth where it is known."""
    import pandas as pd

    from aanet_assets.belief.heldout import read_heldout, simplices_in
    from aanet_assets.toy.process_file import process_of
    from aanet_assets.toy.truth import Truth

    study, shards = run.study, run.study.heldout_shards
    clusters = run.read(CLUSTERS)
    heldout = read_heldout(
        [run.path(SHARD, shard=shard) for shard in shards],
        [run.path(PREDICTIONS, shard=shard) for shard in shards],
        _groups(run),
        study.belief_settings.tokens,
        float(clusters["norm_limit"].astype(float).iloc[0]),
    )
    both = pd.concat([clusters.assign(is_null=False), run.read(NULL_CLUSTERS)])
    files = {False: run.path(CLUSTERING), True: run.path(NULL_CLUSTERING)}
    simplices = list(simplices_in(run.path(SIMPLICES), files, both))
    if study.truth is None:
        return heldout, simplices, None
    letters = heldout.token_ids.reshape(len(heldout.text), -1)
    return heldout, simplices, Truth(process_of(study.truth.process), letters)


def _groups(run: Run[ByN]) -> Any:
    import numpy as np

    return run.read(TOKEN_GROUPS)["group_id"].to_numpy(np.int64)


def _frame(rows: "Iterable[dict[str, Any]]") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows))


def _outcome(
    run: Run[ByN], table: Table, frame: "pd.DataFrame", files: "Sequence[Path]" = ()
) -> Outcome:
    """Write a table, with nulls in the columns that no row has."""
    whole = frame.reindex(columns=table.names).assign(n_clusters_total=run.at.n)
    real = whole[~whole["is_null"].astype(bool)].drop(columns=["n_clusters_total", "is_null"])
    path = run.write(table, whole)
    shown = {"dagster/row_count": len(whole), table.name: pictures.table(real)}
    return Outcome([path, *files], shown)


def _check(run: Run[ByN], table: Table) -> list[Finding]:
    """Every row has all that the table's first number says, or a reason."""
    found = run.read(table)
    first = next(column for column in table.columns if _is_statistic(column))
    silent = int((found[first.name].isna() & (found["unavailable"] == "")).sum())
    twice = int(found.duplicated(["cluster_id", "is_null"]).sum())
    said = f"{len(found)} rows, {twice} of them twice, {silent} without {first.name} or a reason"
    return [Finding("complete", not (silent or twice) and len(found) > 0, said)]


def _is_statistic(column: Column) -> bool:
    return column not in _OF_CLUSTER and column.name != "tokens"
