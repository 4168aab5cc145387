"""Whether the model uses a simplex as beliefs: its predictions and their updates."""

from typing import TYPE_CHECKING, Any

from aanet_assets.steps import pictures
from aanet_assets.steps.aanets import STACK, aanet_models
from aanet_assets.steps.activations import SHARD, activation_cache
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, ROWS, cluster_rows, clustering
from aanet_assets.steps.columns import CLUSTER_ID, N_CLUSTERS_TOTAL, N_LATENTS, NULL_CLUSTER, K
from aanet_assets.steps.evidence import (
    CLUSTER_SHAPES,
    NULL_CLUSTERING,
    NULL_CLUSTERS,
    NULL_ROWS,
    SHAPE_SETTINGS,
    cluster_shapes,
    null_clusters,
)
from aanet_assets.steps.predictions import (
    PREDICTIONS,
    TOKEN_GROUPS,
    predictions,
    token_groups,
)
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, Step, step
from aanet_assets.storage.table import Column, Table, integer, number, text
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from jaxtyping import Int

    from aanet_assets.science.belief.heldout import Heldout, Simplex
    from aanet_assets.science.toy.truth import Truth

SIMPLICES = File("clusters_{n}/simplices.safetensors")
CHAIN_PLOT = File("clusters_{n}/plots/belief_chains_n{n}.png")
UNAVAILABLE = text("unavailable", "Why statistics are null; empty where none is.")
OF_CLUSTER = (N_CLUSTERS_TOTAL, CLUSTER_ID, NULL_CLUSTER, N_LATENTS, K)
KL_EXPLAINED = number(
    "kl_explained",
    "Share of the divergence of predictions from their mean that a mixture explains.",
)
PREDICTION_R2 = number("prediction_r2", "R^2 of next-token probabilities by the operators.")
TWO_STEP_R2 = number("two_step_r2", "R^2 of the coordinates two tokens later by two operators.")
KL_EXPLAINED_LOW = number("kl_explained_low", "Lower end of its 95% interval, by documents.")
KL_EXPLAINED_HIGH = number("kl_explained_high", "Upper end of it.")
SIMPLEX_FITS = Table(
    "simplex_fits",
    "The simplex of each cluster, real or null, at the k that fits best.",
    *OF_CLUSTER,
    number("fit", "How well it fits, as in cluster_shapes."),
    number("agreement_spa", "R^2 of its coordinates by those of successive projections."),
    number("agreement_aanet", "R^2 of its coordinates by those in the AANet's vertices."),
    UNAVAILABLE,
)
BARYCENTRIC_PREDICTION = Table(
    "barycentric_prediction",
    "Whether next-token distributions are mixtures over the vertices of each cluster's simplex.",
    *OF_CLUSTER,
    integer("tokens", "Held-out tokens at which the cluster is active."),
    KL_EXPLAINED,
    KL_EXPLAINED_LOW,
    KL_EXPLAINED_HIGH,
    number("mixture_r2", "R^2 of the probabilities by the mixture."),
    number("token_kl_explained", "The share that the current token alone explains."),
    number("permuted_kl_explained", "The same with coordinates permuted among equal tokens."),
    number("latents_kl_explained", "The share that all latents of the cluster explain."),
    number("best_latent_kl_explained", "The share that the best single latent explains."),
    number(
        "sufficiency",
        "What the mixture explains of what all latents do; null where these explain nothing.",
    ),
    text("component", "Component of a known process whose states the vertices are."),
    number("belief_r2", "R^2 of its beliefs by the coordinates as they are."),
    UNAVAILABLE,
)
BELIEF_UPDATE = Table(
    "belief_update",
    "Whether coordinates update as beliefs of a hidden Markov chain do.",
    *OF_CLUSTER,
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


def uses_belief(study: Study) -> bool:
    """Of studies that ask whether the model uses the simplices."""
    return study.belief is not None


def outcome(
    run: Run[ByN],
    table: Table,
    rows: "pd.DataFrame | Iterable[dict[str, Any]]",
    files: "Sequence[Path]" = (),
) -> Outcome:
    """Write a table of one row per cluster, with nulls in the columns that no row has.

    Args:
        files: what else the step wrote.
    """
    import pandas as pd

    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    whole = frame.reindex(columns=table.names).assign(n_clusters_total=run.at.n)
    real = whole[~whole["null_cluster"].astype(bool)].drop(
        columns=["n_clusters_total", "null_cluster"]
    )
    path = run.write(table, whole)
    shown = {"dagster/row_count": len(whole), table.name: pictures.table(real)}
    return Outcome([path, *files], shown)


def numbers_or_reasons(run: Run[ByN], table: Table) -> Finding:
    """Whether each cluster has one row, with the table's first statistic or a reason."""
    found = run.read(table)
    first = next(column for column in table.columns if _is_statistic(column))
    silent = int((found[first.name].isna() & (found["unavailable"] == "")).sum())
    twice = int(found.duplicated(["cluster_id", "null_cluster"]).sum())
    said = f"{len(found)} rows, {twice} of them twice, {silent} without {first.name} or a reason"
    return Finding("complete", not (silent or twice) and len(found) > 0, said)


def _is_statistic(column: Column) -> bool:
    return column not in OF_CLUSTER and column.name != "tokens"


def require_rows(of: Step[ByN], said: str) -> None:
    """Check of a step's one table that each cluster has numbers or a reason."""
    of.checks(complete=said)(lambda run: [numbers_or_reasons(run, of.tables[0])])


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
    code_version="2",
)  # fmt: skip
def simplex_fits(run: Run[ByN]) -> Outcome:
    """The simplex of each cluster, real or null, in closed form, at the k that fits best."""
    from aanet_assets.science.belief.heldout import save_simplices
    from aanet_assets.science.belief.tables import fitted

    rows = {
        False: (run.path(ROWS), run.path(CLUSTERING)),
        True: (run.path(NULL_ROWS), run.path(NULL_CLUSTERING)),
    }
    stacks = {k: run.path(STACK, k=k) for k in run.study.ks}
    table, found = fitted(run.study, run.at.n, run.read(CLUSTER_SHAPES), rows, stacks)
    save_simplices(run.path(SIMPLICES), found)
    return outcome(run, SIMPLEX_FITS, table, [run.path(SIMPLICES)])


require_rows(simplex_fits, "Every cluster, real or null, has one row: a simplex or a reason.")

_HELDOUT = (activation_cache, predictions, token_groups)
PLACED = (clustering, cluster_rows, null_clusters, simplex_fits, *_HELDOUT)
PLACED_SETTINGS = ("rows.max_norm_ratio", "belief.tokens", "belief.seed")
HAS_NUMBERS = "Every cluster with a simplex has numbers or a reason."


def placed_step(
    *tables: Table,
    settings: tuple[str, ...],
    library: str,
    reads: tuple[Step, ...] = (),
    files: tuple[File, ...] = (),
    on_device: bool = False,
) -> "Callable[[Callable[[Run[ByN]], Outcome]], Step[ByN]]":
    """Declare a step that asks something of `placed_clusters`.

    Args:
        settings, reads: beside those of all such steps.
        library: what does its work.
    """
    return step(
        ByN,
        group="1f_belief",
        job="stage1_belief",
        kinds=(library, "duckdb"),
        on_device=on_device,
        when=uses_belief,
        reads=(*reads, *PLACED),
        settings=(*PLACED_SETTINGS, *settings),
        tables=tables,
        files=files,
        code_version="3",
    )


@placed_step(
    BARYCENTRIC_PREDICTION, settings=("belief.scored_tokens", "truth.process"), library="numpy"
)
def barycentric_prediction(run: Run[ByN]) -> Outcome:
    """Whether next-token distributions are mixtures over the vertices of each simplex.

    Beside it stand what the current token alone explains, coordinates permuted among equal tokens,
    the best latent, and all latents, which bound it.
    """
    from aanet_assets.science.belief.tables import prediction_rows

    heldout, simplices, truth = placed_clusters(run)
    rows = prediction_rows(heldout, simplices, run.study.belief_settings, truth)
    return outcome(run, BARYCENTRIC_PREDICTION, rows)


require_rows(barycentric_prediction, HAS_NUMBERS)


@placed_step(
    BELIEF_UPDATE,
    BELIEF_CHAINS,
    settings=("belief.pairs", "truth.process"),
    library="scipy",
    files=(CHAIN_PLOT,),
)
def belief_update(run: Run[ByN]) -> Outcome:
    """Whether coordinates update as the beliefs of a hidden Markov chain do, and which chain it is.

    One operator per token, by non-negative least squares; two of them must compose.
    """
    import pandas as pd

    from aanet_assets.review.chain_plot import write_chain_plot
    from aanet_assets.science.belief.tables import chain_rows, update_rows

    heldout, simplices, truth = placed_clusters(run)
    rows = list(update_rows(heldout, simplices, run.study.belief_settings, truth))
    names = [name for name in BELIEF_CHAINS.names if name != "n_clusters_total"]
    found = list(chain_rows(heldout, simplices, run.study.belief_settings, truth))
    chains = pd.DataFrame(found, columns=names).assign(n_clusters_total=run.at.n)
    picture = run.path(CHAIN_PLOT)
    write_chain_plot(picture, chains, run.at.n)
    made = outcome(run, BELIEF_UPDATE, rows, [run.write(BELIEF_CHAINS, chains), picture])
    return Outcome(made.files, {**made.metadata, "chains": pictures.thumbnail(picture)})


@belief_update.checks(
    complete=HAS_NUMBERS,
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
        numbers_or_reasons(run, BELIEF_UPDATE),
        Finding("chains", not wrong, said),
        drawn([run.path(CHAIN_PLOT)]),
    ]


def placed_clusters(run: Run[ByN]) -> "tuple[Heldout, list[Simplex], Truth | None]":
    """Held-out tokens, the clusters that have a simplex, and the hidden chains if known."""
    import pandas as pd

    from aanet_assets.science.belief.heldout import read_heldout, simplices_in
    from aanet_assets.science.toy.process import UnionProcess
    from aanet_assets.science.toy.process_file import process_of
    from aanet_assets.science.toy.truth import Truth

    study, shards = run.study, run.study.heldout_shards
    clusters = run.read(CLUSTERS)
    heldout = read_heldout(
        [run.path(SHARD, shard=shard) for shard in shards],
        [run.path(PREDICTIONS, shard=shard) for shard in shards],
        groups_of_tokens(run),
        study.belief_settings.tokens,
        float(clusters["norm_limit"].astype(float).iloc[0]),
    )
    both = pd.concat([clusters.assign(null_cluster=False), run.read(NULL_CLUSTERS)])
    files = {False: run.path(CLUSTERING), True: run.path(NULL_CLUSTERING)}
    simplices = list(simplices_in(run.path(SIMPLICES), files, both))
    process = None if study.process is None else process_of(study.process)
    # Of a class of one's own neither states nor what follows from them are known.
    if not isinstance(process, UnionProcess):
        return heldout, simplices, None
    letters = heldout.token_ids.reshape(len(heldout.text), -1)
    return heldout, simplices, Truth(process, letters)


def groups_of_tokens(run: Run[ByN]) -> "Int[np.ndarray, ' vocabulary']":
    """The group of next tokens that each token belongs to."""
    import numpy as np

    return run.read(TOKEN_GROUPS)["group_id"].to_numpy(np.int64)
