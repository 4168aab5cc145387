"""Which clusters are worth a closer look, why the others are not, and whether it holds twice."""

from typing import TYPE_CHECKING

import dagster as dg

from aanet_assets.science.selection.rules import MODES
from aanet_assets.steps import pictures
from aanet_assets.steps.clusters import CLUSTERING, ROWS, cluster_rows, clustering
from aanet_assets.steps.columns import CATEGORY, CLUSTER_ID, N_CLUSTERS_TOTAL
from aanet_assets.steps.evidence import EVIDENCE, REPLICATES, evidence, has_replicates, replicates
from aanet_assets.steps.functional import FUNCTIONAL_EVIDENCE, functional_evidence
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, consolidated_metrics
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, flag, integer, number, text
from aanet_assets.study.layout import File
from aanet_assets.study.settings import SelectionSettings

if TYPE_CHECKING:
    from aanet_assets.science.selection.filters import Selection

FUNNEL_PLOT = File("clusters_{n}/plots/selection_funnel_n{n}.png")
REPRODUCIBILITY_PLOT = File("clusters_{n}/plots/reproducibility_n{n}.png")
_LIMITS = tuple(
    f"{mode.limits}.{name}"
    for mode in MODES.values()
    for name in mode.settings
    if name not in SelectionSettings.model_fields
)
_MODE = text("mode", "Mode of selection.")
SELECTED_CLUSTERS = Table(
    "selected_clusters",
    "One verdict per cluster: by the mode in use, and by each mode.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    flag("selected", "Whether stage 3 looks at it."),
    CATEGORY,
    integer("k", "Number of archetypes in stage 3."),
    text("k_source", "Where that k comes from."),
    text("reason", "Why it is selected, or which filters turned it away."),
    text("elbow_category", "Category by the elbow mode, which has the guide's rules."),
    text("elbow_reason", "Reason by the elbow mode."),
    text("geometric_category", "Category by the geometric mode."),
    integer("geometric_k", "k by the geometric mode."),
    text("geometric_reason", "Reason by the geometric mode."),
    text("functional_category", "Category by the functional mode; null without belief."),
    integer("functional_k", "k by the functional mode."),
    text("functional_reason", "Reason by the functional mode; null without belief."),
)
SELECTION_FUNNEL = Table(
    "selection_funnel",
    "What each filter of each mode turned away.",
    N_CLUSTERS_TOTAL,
    _MODE,
    integer("position", "Place of the filter, from 1 on."),
    text("filter", "The filter, with its threshold."),
    text("setting", "The setting that decides it."),
    integer("failed_here", "Clusters it turned away, of those that earlier filters let through."),
    integer("failed_cumulative", "Clusters turned away by it or by an earlier one."),
    integer("remaining", "Clusters left."),
)
REPRODUCIBILITY = Table(
    "reproducibility",
    "Whether the same clusters are selected again from disjoint halves of what is random.",
    N_CLUSTERS_TOTAL,
    _MODE,
    integer("only_first", "Clusters that only the first selection has."),
    integer("both", "Clusters that both have."),
    integer("only_second", "Clusters that only the second has."),
    integer("same_k", "Of those in both, clusters with the same k."),
    number("jaccard", "Share of the clusters in either that are in both."),
)


@step(
    ByN,
    group="2_review",
    job="stage3",
    kinds=("pandas", "duckdb"),
    reads=(consolidated_metrics, evidence, functional_evidence),
    settings=("selection", *_LIMITS),
    tables=(SELECTED_CLUSTERS, SELECTION_FUNNEL),
    files=(FUNNEL_PLOT,),
    code_version="6",
)
def selected_clusters(run: Run[ByN]) -> Outcome:
    """The selected clusters with category and k, the reason for every rejection, and the funnel.

    `selection.mode` says whether the elbows, by the guide's rules, the geometry of the rows, or
    what the model does with a simplex decides; the verdicts and funnels of all modes that the study
    has are in the tables. Selecting nothing is a result, too: the asset succeeds and says which
    filter turned away what.
    """
    from aanet_assets.review.canvas import save
    from aanet_assets.review.funnel_plot import selection_funnel
    from aanet_assets.science.selection.verdicts import outcome_of, verdict_tables

    study, n, mode = run.study, run.at.n, run.study.selection.mode
    by_mode = selections(run)
    verdicts, funnel = verdict_tables(by_mode, mode)
    files = [run.write(SELECTED_CLUSTERS, verdicts), run.write(SELECTION_FUNNEL, funnel)]
    files.append(save(selection_funnel(funnel, mode, n), run.path(FUNNEL_PLOT)))
    return Outcome(
        files,
        {
            "dagster/row_count": len(by_mode[mode].selected),
            "outcome": dg.MetadataValue.text(outcome_of(by_mode, mode, study.ks)),
            "verdicts": pictures.table(verdicts),
            "funnel": pictures.table(by_mode[mode].funnel),
            "funnel_of_all_modes": pictures.thumbnail(run.path(FUNNEL_PLOT)),
        },
    )


def selections(run: Run[ByN]) -> "dict[str, Selection]":
    """The selection of each mode that the study has, by its name."""
    from aanet_assets.science.selection.verdicts import select_all

    study, tables = run.study, (run.read(CONSOLIDATED_METRICS), run.read(EVIDENCE))
    functional = None
    if study.belief is not None:
        functional = run.read(FUNCTIONAL_EVIDENCE), study.belief
    return select_all(*tables, study.selection, study.controls, run.at.n, functional)


@selected_clusters.checks(
    complete="Every cluster has one verdict, with a reason.",
    k_and_category="Every selected cluster has one of the ks and a category.",
    funnel="The funnel adds up and agrees with the verdicts.",
    drawn="The funnel's picture is a PNG file that shows something.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.plots import drawn
    from aanet_assets.steps.checks.selection import check_selection

    study, tables = run.study, (run.read(SELECTED_CLUSTERS), run.read(SELECTION_FUNNEL))
    found = check_selection(*tables, run.at.n, study.ks, study.selection.mode)
    return [*found, drawn([run.path(FUNNEL_PLOT)])]


@step(
    ByN,
    group="2_review",
    job="stage3",
    kinds=("matplotlib", "duckdb"),
    when=has_replicates,
    reads=(clustering, cluster_rows, replicates, evidence),
    settings=("ks", "selection", "controls"),
    tables=(REPRODUCIBILITY,),
    files=(REPRODUCIBILITY_PLOT,),
    code_version="4",
)
def reproducibility(run: Run[ByN]) -> Outcome:
    """Whether elbows and geometry select the same clusters again; a table and a picture.

    By elbows the selection is made twice from disjoint sets of replicates, by geometry from
    disjoint halves of the rows. The functional mode is not among them: what it judges is fitted on
    one half of the held-out documents and measured on the other, or not fitted at all.
    """
    import pandas as pd

    from aanet_assets.review.canvas import save
    from aanet_assets.review.reproducibility_plot import reproducibility_plot
    from aanet_assets.science.activations.rows import load_rows
    from aanet_assets.science.selection.reproducibility import agreement_table

    n, picture = run.at.n, run.path(REPRODUCIBILITY_PLOT)
    rows = load_rows(run.path(ROWS), run.path(CLUSTERING), range(n))
    found = agreement_table(run.read(REPLICATES), run.read(EVIDENCE), rows, run.study, n)
    save(reproducibility_plot(found, n), picture)
    table = pd.DataFrame([{**own._asdict(), "jaccard": own.jaccard} for own in found])
    table.insert(0, "n_clusters_total", n)
    shown = {"agreement": pictures.table(table), "picture": pictures.thumbnail(picture)}
    files = [run.write(REPRODUCIBILITY, table), picture]
    return Outcome(files, {"dagster/row_count": len(table), **shown})


@reproducibility.checks(drawn="The picture is a PNG file that shows something.")
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.steps.checks.plots import drawn

    return [drawn([run.path(REPRODUCIBILITY_PLOT)])]
