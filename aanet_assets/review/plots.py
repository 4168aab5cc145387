"""The five plots of stage 1 that a researcher looks at before choosing thresholds."""

from pathlib import Path

import pandas as pd

from aanet_assets.review.canvas import save
from aanet_assets.review.rank_plots import decoder_rank_dist, pca_vs_geometric_rank
from aanet_assets.review.strength_plots import elbow_strength_dists, recon_vs_arch_unzoomed
from aanet_assets.review.zoomed_plot import recon_vs_arch_zoomed
from aanet_assets.science.selection.categories import categorise, limits_of
from aanet_assets.science.selection.quality import clusters_of, counted, failures_of, rules_in_use
from aanet_assets.science.selection.rules import ELBOW
from aanet_assets.study.settings import SelectionSettings


def write_plots(
    table: pd.DataFrame, settings: SelectionSettings, n_clusters: int, folder: Path
) -> list[Path]:
    """Draw the five plots of a consolidated table into `folder`; the same table, the same bytes.

    Where there is nothing to draw, a plot says so in a sentence.
    """
    clusters = table.drop_duplicates("cluster_id").set_index("cluster_id").sort_index()
    values = dict(settings)
    rules = rules_in_use(ELBOW, values)
    passed = [
        (c, counted(c.values, values)[0])
        for c in clusters_of(table)
        if not failures_of(c.values, rules, values)
    ]
    limits = limits_of([strengths for _, strengths in passed], values)
    categories = {
        c.cluster_id: categorise(c.values, strengths, limits)[0] for c, strengths in passed
    }
    figures = {
        "pca_vs_geometric_rank": pca_vs_geometric_rank(clusters, n_clusters),
        "decoder_rank_dist": decoder_rank_dist(clusters, n_clusters),
        "elbow_strength_dists": elbow_strength_dists(clusters, n_clusters),
        "recon_vs_arch_unzoomed": recon_vs_arch_unzoomed(clusters, n_clusters),
        "recon_vs_arch_zoomed": recon_vs_arch_zoomed(clusters, categories, limits, n_clusters),
    }
    return [save(figure, folder / f"{name}_n{n_clusters}.png") for name, figure in figures.items()]
