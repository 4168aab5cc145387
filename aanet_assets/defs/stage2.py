"""Stage 2: which clusters are worth a closer look, and why the others are not."""

import dagster as dg

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.lineage import Partition
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table


def selected_clusters(study: Study, partition: Partition) -> Outcome:
    """The selected clusters with category and k, the reason for every rejection, and the funnel.

    `selection.mode` says whether the guide's rules or the calibrated evidence decide; the verdicts
    and funnels of both are in the tables. Selecting nothing is a result, too: the asset succeeds
    and says which filter turned away what.
    """
    import pandas as pd

    from aanet_assets.analysis.canvas import save
    from aanet_assets.analysis.funnel_plot import selection_funnel
    from aanet_assets.trust.verdicts import explain_none_of, select_both

    n = partition.n
    assert n is not None
    table = read_table(study.paths, "consolidated_metrics", Partition("consolidated_metrics", n=n))
    known = read_table(study.paths, "evidence", Partition("evidence", n=n))
    both = select_both(table, known, study.selection, study.trust, n)
    selection = both[study.selection.mode]
    ks = selection.selected[["cluster_id", "k", "k_source"]]
    verdicts = selection.verdicts.merge(ks, on="cluster_id", how="left")
    for mode, other in both.items():
        renamed = {name: f"{mode}_{name}" for name in ("category", "reason")}
        theirs = other.verdicts[["cluster_id", *renamed]].rename(columns=renamed)
        verdicts = verdicts.merge(theirs, on="cluster_id")
    ks = both["calibrated"].selected[["cluster_id", "k"]].rename(columns={"k": "calibrated_k"})
    verdicts = verdicts.merge(ks, on="cluster_id", how="left")
    funnel = pd.concat(
        other.funnel.assign(mode=mode, position=range(1, len(other.funnel) + 1))
        for mode, other in both.items()
    )
    files = [
        write_table(study.paths, "selected_clusters", partition, verdicts),
        write_table(study.paths, "selection_funnel", partition, funnel),
    ]
    picture = study.paths.plots(n) / f"selection_funnel_n{n}.png"
    files.append(save(selection_funnel(funnel, study.selection.mode, n), picture))
    outcome = (
        f"{len(selection.selected)} of {n} clusters selected"
        if len(selection.selected)
        else explain_none_of(both, study.selection.mode, study.ks)
    )
    return Outcome(
        files,
        {
            "dagster/row_count": len(selection.selected),
            "outcome": dg.MetadataValue.text(outcome),
            "verdicts": pictures.table(verdicts),
            "funnel": pictures.table(selection.funnel),
            "funnel_of_both_modes": pictures.thumbnail(picture),
        },
    )
