"""`aanet compare`: the clusterings of several studies side by side."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from aanet_assets.cli.terminal import console, load_with_clusters, stop

if TYPE_CHECKING:
    import pandas as pd

    from aanet_assets.science.selection.comparison import Clustering
    from aanet_assets.study.study import Study

Studies = Annotated[list[str], typer.Argument(help="Their names, as `aanet list` shows them.")]
_CLUSTERS = """
SELECT c.n_clusters_total, c.cluster_id, c.latent_indices, s.* EXCLUDE (n_clusters_total, cluster_id),
       e.coactivity, e.simplex_fit, {truth}
FROM clusters c
JOIN selected_clusters s USING (n_clusters_total, cluster_id)
JOIN evidence e ON (e.n_clusters_total, e.cluster_id) = (c.n_clusters_total, c.cluster_id)
  AND NOT e.null_cluster
{recovery} ORDER BY ALL
"""  # noqa: E501


def compare(studies: Studies) -> None:
    """Set clusterings side by side: sizes, fits, verdicts of every mode, and where they agree.

    The same tables, and which cluster is which, are written to data/comparison.duckdb.
    """
    import duckdb

    from aanet_assets.science.selection.comparison import agreement, matched, pairs_of, side_by_side
    from aanet_assets.storage.warehouse import write_frames
    from aanet_assets.study.layout import data_root

    names = list(dict.fromkeys(studies))
    subjects = [load_with_clusters(name) for name in names]
    _require_same_latents(subjects)
    try:
        clusterings = [one for subject in subjects for one in _clusterings(subject)]
    except duckdb.Error as error:
        raise stop(error) from None
    if len(clusterings) < 2:
        raise stop(
            f"there is one clustering, n_clusters {clusterings[0].n} of {names[0]}, and nothing to "
            "compare it with: name another study on the same SAE"
        )
    frames = {
        "clusterings": side_by_side(clusterings),
        "agreement": agreement(clusterings),
        "comparison": _stacked([matched(a, b) for a, b in pairs_of(clusterings)]),
    }
    _print(frames["clusterings"], "Clusterings")
    _print(frames["agreement"], "Agreement")
    path = data_root() / "comparison.duckdb"
    write_frames(path, frames)
    console.print(f"written to {path.relative_to(data_root().parent)}: {', '.join(frames)}")


def _require_same_latents(subjects: "list[Study]") -> None:
    """Latents of different SAEs have numbers, too, but not the same ones."""
    first = subjects[0]
    for other in subjects[1:]:
        for field in ("model", "sae"):
            ours, theirs = getattr(first, field), getattr(other, field)
            if ours != theirs:
                raise stop(
                    f"{first.name} and {other.name} have different latents, which cannot be "
                    f"compared: their {field} is {ours!r} and {theirs!r}. Name studies on the "
                    "same SAE, as study.sharing(...) makes them"
                )


def _clusterings(study: "Study") -> "list[Clustering]":
    """What is finished of a study; an error where nothing is."""
    from aanet_assets.orchestration.materialise import fetch_database
    from aanet_assets.orchestration.pipeline import tables_of
    from aanet_assets.science.selection.comparison import Clustering
    from aanet_assets.storage import warehouse

    fetch_database(study)
    known = study.truth is not None
    query = _CLUSTERS.format(
        truth="r.component, r.r2, r.leak" if known else "NULL AS r2, NULL AS leak",
        recovery="LEFT JOIN recovery r ON (r.n_clusters_total, r.cluster_id) "
        "= (c.n_clusters_total, c.cluster_id)"
        if known
        else "",
    )
    try:
        found = warehouse.answer(study.paths, tables_of(study), query, lambda answer: answer.df())
    except FileNotFoundError:
        found = None
    if found is None or found.empty:
        raise stop(f"no clustering of {study.name} has verdicts yet. Run: aanet run {study.name}")
    return [
        Clustering(study.name, int(str(n)), own.reset_index(drop=True))
        for n, own in found.groupby("n_clusters_total")
    ]


def _stacked(frames: "list[pd.DataFrame]") -> "pd.DataFrame":
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def _print(frame: "pd.DataFrame", title: str) -> None:
    table = Table(*(name.replace("_", " ") for name in frame.columns), title=title)
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    import pandas as pd

    if value is None or pd.isna(value):  # pyright: ignore
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
