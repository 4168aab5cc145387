"""Names for the vertices of the selected clusters, with scores, beside those of null clusters."""

from aanet_assets.steps import pictures
from aanet_assets.steps.belief import PLACED, PLACED_SETTINGS, placed_clusters
from aanet_assets.steps.columns import CLUSTER_ID, N_CLUSTERS_TOTAL, NULL_CLUSTER, K
from aanet_assets.steps.inputs import language_model
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, integer, number, text
from aanet_assets.study.study import Study

VERTEX_INTERPRETATION = Table(
    "vertex_interpretation",
    "A name for each vertex of the selected clusters, and of as many null clusters, with scores.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    NULL_CLUSTER,
    K,
    integer("vertex_id", "The vertex, from 0 on."),
    text("name", "What it stands for; no evidence by itself: null clusters have names, too."),
    text("named_by", "The model that named it, or contrast words."),
    number(
        "detection",
        "Balanced accuracy of telling its tokens from equal ones inside; 0.5 is chance.",
    ),
    number("fuzzing", "The same of telling its tokens from others of the same passages."),
    text("scored_by", "The model that was asked, or contrast words; null where none could be."),
    integer("examples", "Passages it was named from."),
    integer("scored", "Passages of it that were scored, from other documents."),
    text("problem", "Why a model was not asked, or could not answer; empty where it was."),
)


def names_vertices(study: Study) -> bool:
    """Of studies that ask for names."""
    return study.interpretation is not None


@step(
    ByN,
    group="3_vertices",
    job="stage3",
    kinds=("duckdb",),
    when=names_vertices,
    reads=(language_model, selected_clusters, *PLACED),
    settings=(*PLACED_SETTINGS, "model", "revision", "interpretation"),
    tables=(VERTEX_INTERPRETATION,),
    code_version="2",
)
def vertex_interpretation(run: Run[ByN]) -> Outcome:
    """Names for the vertices of the selected clusters' simplices, by a language model or by words.

    `detection` and `fuzzing` say how well a name tells held-out tokens near its vertex from hard
    others. Answers are kept in `data/.answers`; an endpoint that is down fails nothing: names are
    then contrast words, and say so.
    """
    import pandas as pd

    from aanet_assets.science.activations.corpus import load_tokenizer
    from aanet_assets.science.vertices.endpoint import Endpoint
    from aanet_assets.science.vertices.interpretation import interpretation_rows
    from aanet_assets.study.layout import data_root

    settings = run.study.names_asked
    heldout, simplices, _ = placed_clusters(run)
    chosen = run.read(SELECTED_CLUSTERS).query("selected")["cluster_id"].astype(int).tolist()
    real = [one for one in simplices if not one.null_cluster and one.cluster.cluster_id in chosen]
    null = [one for one in simplices if one.null_cluster][: len(real)]
    endpoint = Endpoint(settings, data_root() / ".answers")
    tokenizer = load_tokenizer(run.study)
    rows = interpretation_rows(heldout, [*real, *null], tokenizer, settings, endpoint)
    names = [name for name in VERTEX_INTERPRETATION.names if name != "n_clusters_total"]
    table = pd.DataFrame(rows, columns=names).assign(n_clusters_total=run.at.n)
    path = run.write(VERTEX_INTERPRETATION, table)
    shown = table[["cluster_id", "null_cluster", "vertex_id", "name", "detection", "fuzzing"]]
    return Outcome([path], {"dagster/row_count": len(table), "names": pictures.table(shown)})


@vertex_interpretation.checks(
    complete="Every vertex of a cluster has one row, and scores are shares.",
    warnings={"answered": "The endpoint, if there is one, answered every question."},
)
def _(run: Run[ByN]) -> list[Finding]:
    table = run.read(VERTEX_INTERPRETATION)
    counts = table.groupby(["null_cluster", "cluster_id"])["vertex_id"].nunique()
    vertices = table.groupby(["null_cluster", "cluster_id"])["k"].first()
    wrong = int((counts != vertices).sum())
    outside = int((~table[["detection", "fuzzing"]].fillna(0.5).apply(
        lambda column: column.between(0, 1))).sum().sum())  # fmt: skip
    problems = table["problem"][table["problem"] != ""]
    first = f", the first: {problems.iloc[0]}" if len(problems) else ""
    return [
        Finding("complete", not (wrong or outside),
                f"{wrong} clusters lack vertices, and {outside} scores are no shares; none may"),
        Finding("answered", problems.empty,
                f"{len(problems)} of {len(table)} vertices have no answer{first}; materialise this "
                "again when the endpoint answers", blocking=False),
    ]  # fmt: skip
