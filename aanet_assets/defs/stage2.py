"""Stage 2: which clusters are worth a closer look, and why the others are not."""

import dagster as dg

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.lineage import Partition
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table


def selected_clusters(study: Study, partition: Partition) -> Outcome:
    """The selected clusters with category and k, the reason for every rejection, and the funnel.

    Selecting nothing is a result, too: the asset succeeds and says which filter turned away what.
    """
    from aanet_assets.analysis.selection import explain_none, select_clusters

    n = partition.n
    assert n is not None
    table = read_table(study.paths, "consolidated_metrics", Partition("consolidated_metrics", n=n))
    selection = select_clusters(table, study.selection, n)
    ks = selection.selected[["cluster_id", "k", "k_source"]]
    verdicts = selection.verdicts.merge(ks, on="cluster_id", how="left")
    funnel = selection.funnel.assign(position=range(1, len(selection.funnel) + 1))
    files = [
        write_table(study.paths, "selected_clusters", partition, verdicts),
        write_table(study.paths, "selection_funnel", partition, funnel),
    ]
    outcome = (
        f"{len(selection.selected)} of {n} clusters selected"
        if len(selection.selected)
        else explain_none(selection)
    )
    return Outcome(
        files,
        {
            "dagster/row_count": len(selection.selected),
            "outcome": dg.MetadataValue.text(outcome),
            "verdicts": pictures.table(verdicts),
            "funnel": pictures.table(selection.funnel),
        },
    )
