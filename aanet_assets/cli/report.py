"""What a finished run tells its user on the terminal: selection, recovery, and where things are."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aanet_assets.orchestration.materialise import fetch_database
from aanet_assets.orchestration.pipeline import tables_of
from aanet_assets.science.selection.verdicts import explain_none_of
from aanet_assets.science.toy.recovery import summary
from aanet_assets.steps.ground_truth import RECOVERY_PLOT
from aanet_assets.steps.metrics import METRICS_CSV, PLOTS
from aanet_assets.steps.selection import selected_clusters, selections
from aanet_assets.steps.vertices import MANIFEST
from aanet_assets.storage import warehouse
from aanet_assets.storage.run import Run
from aanet_assets.study.study import Study


def print_report(study: Study, console: Console) -> None:
    """Print the summary of a study that has been run to the end."""
    fetch_database(study)
    if study.truth is not None:
        _print_recovery(study, study.shown_n_clusters, console)
    _print_selection(study, console)
    _print_places(study, console)


def _frame(study: Study, sql: str) -> pd.DataFrame:
    return warehouse.answer(study.paths, tables_of(study), sql, lambda answer: answer.df())


def _print_recovery(study: Study, n: int, console: Console) -> None:
    recovery = _frame(
        study,
        f"""SELECT r.*, simplex_fit, s.k
            FROM recovery r
            LEFT JOIN evidence e
              ON (e.n_clusters_total, e.cluster_id) = (r.n_clusters_total, r.cluster_id)
              AND NOT null_cluster
            LEFT JOIN selected_clusters s
              ON (s.n_clusters_total, s.cluster_id) = (r.n_clusters_total, r.cluster_id)
            WHERE r.n_clusters_total = {n} ORDER BY component""",
    )
    if recovery.empty:
        return
    table = Table(
        "component", "cluster", "R² of belief", "from the letter alone", "leak", "true k",
        "elbow k", "best fit", "verdict", "R² barycentric", "vertex purity",
        title=f"What was recovered of the truth at n_clusters {n}",
    )  # fmt: skip
    for row in recovery.to_dict("records"):
        whole = (row["true_k"], row["recon_elbow_k"])
        table.add_row(
            row["component"],
            _number(row["cluster_id"], 0),
            *(_number(row[name], 3) for name in ("r2", "token_r2", "leak")),
            *(_number(value, 0) for value in whole),
            _number(row["simplex_fit"], 2),
            "no simplex" if pd.isna(row["k"]) else f"simplex of {row['k']:.0f}",
            _number(row["barycentric_r2"], 3),
            _number(row["vertex_purity"], 3),
        )
    console.print(table)
    means = summary(recovery)
    leak = f", largest leak {means['max_leak']:.3f}" if "max_leak" in means else ""
    console.print(
        f"Mean held-out R² of belief from cluster latents {means['mean_r2']:.3f} "
        f"(from the current letter alone {means['mean_token_r2']:.3f}){leak}. "
        "A dash: no simplex to find, or not measured.",
        highlight=False,
    )
    if study.belief is not None:
        _print_steering(study, n, console)


def _print_steering(study: Study, n: int, console: Console) -> None:
    """Whether the model uses the simplices that were selected."""
    steered = _frame(
        study,
        f"""SELECT true_reached, random FROM vertex_steering
            JOIN selected_clusters USING (n_clusters_total, cluster_id)
            WHERE n_clusters_total = {n} AND NOT null_cluster AND selected
              AND true_reached NOT NULL""",
    )
    if steered.empty:
        return
    reached, random = steered["true_reached"], steered["random"]
    console.print(
        f"The model uses them: where a token is put at another vertex of one of the {len(steered)} "
        f"selected simplices, its prediction goes {reached.min():.1%} to {reached.max():.1%} of "
        "the way to what truly follows from that state; along a random direction of the same "
        f"length, {random.min():.0%} to {random.max():.0%}.",
        highlight=False,
    )


def _number(value, digits: int) -> str:
    return "-" if pd.isna(value) else f"{value:.{digits}f}"


def _print_selection(study: Study, console: Console) -> None:
    selected = _frame(
        study,
        """SELECT n_clusters_total, cluster_id, s.k, s.category, sum(samples)::BIGINT AS samples,
                  count(*) FILTER (reached_target) AS full_vertices
           FROM selected_clusters s LEFT JOIN vertex_stats USING (n_clusters_total, cluster_id)
           WHERE selected GROUP BY ALL ORDER BY ALL""",
    )
    if selected.empty:
        console.print("No cluster was selected.")
        for n in study.n_clusters:
            _print_funnel(study, n, console)
        return
    table = Table(
        "n_clusters", "cluster", "k", "category", "vertex samples", "vertices with all samples",
        title="Selected clusters",
    )  # fmt: skip
    for row in selected.itertuples():
        table.add_row(
            str(row.n_clusters_total), str(row.cluster_id), str(row.k), str(row.category),
            _number(row.samples, 0), f"{row.full_vertices} of {row.k}",
        )  # fmt: skip
    console.print(table)
    empty = sorted(set(study.n_clusters) - set(selected["n_clusters_total"]))
    if empty:
        named = ", ".join(map(str, empty))
        console.print(
            f"None at n_clusters {named}; the table selection_funnel says why.", highlight=False
        )


def _print_funnel(study: Study, n: int, console: Console) -> None:
    """What each filter of the mode in use turned away at one n, and in words what to try."""
    mode, by_mode = study.selection.mode, selections(Run(study, selected_clusters.at(n=n)))
    title = f"What each filter of the {mode} mode turned away, n_clusters {n}"
    table = Table("filter", "turned away", "left", title=title)
    for step in by_mode[mode].funnel.to_dict("records"):
        table.add_row(step["filter"], str(step["failed_here"]), str(step["remaining"]))
    console.print(table)
    console.print(escape(explain_none_of(by_mode, mode, study.ks)), highlight=False, soft_wrap=True)


def _print_places(study: Study, console: Console) -> None:
    root, n = study.paths.root, study.shown_n_clusters

    def shown(path: Path) -> str:
        return escape(str(path.relative_to(root.parent.parent)))

    places = {
        "plots": shown(PLOTS[0].under(root, n=n).parent),
        "table": shown(METRICS_CSV.under(root, n=n)),
        "samples": shown(MANIFEST.under(root, n=n).parent),
        "database": shown(study.paths.database),
        **({"all files": f"{study.remote}/{study.name}"} if study.remote else {}),
        "review": f"aanet review {study.name}",
        "Dagit": "aanet ui, then http://127.0.0.1:3000",
        "SQL": escape(
            f'aanet sql {study.name} "SELECT cluster_id, k, category FROM selected_clusters '
            f'WHERE selected"'
        ),
    }
    if study.truth is not None:
        places = {"picture": shown(RECOVERY_PLOT.under(root, n=n)), **places}
    for name, place in places.items():
        console.print(f"[bold]{name:>9}[/]  {place}", highlight=False, soft_wrap=True)
