"""The rows that AANets of stage 1 train on, and the seed of all that is drawn for them."""

from typing import TYPE_CHECKING

from aanet_assets.seeds import seed_for
from aanet_assets.study import Study

if TYPE_CHECKING:
    from aanet_assets.archetypes.data import ClusterRows


def row_seed(study: Study, n: int, cluster_id: int, *, null: bool = False) -> int:
    """Fixes the draw of a cluster's rows, their split, and the sample of its extrema."""
    kind = ("null",) if null else ()
    return seed_for(study.rows.seed, study.name, n, *kind, cluster_id)


def training_rows(study: Study, n: int, k: int, *, null: bool = False) -> list["ClusterRows"]:
    """Rows of the clusters, or of the null clusters of the first shuffle, with extrema for k.

    Those kept with the rows, or where k asks for more of them, more from the same sample.
    """
    from aanet_assets.archetypes.extrema import N_EXTREMA, with_extrema
    from aanet_assets.cache.rows import load_rows
    from aanet_assets.progress import Progress

    paths = study.paths
    files = (
        (paths.null_rows(n), paths.null_clustering(n))
        if null
        else (paths.rows(n), paths.clustering(n))
    )
    rows = load_rows(*files, range(n))
    if k <= N_EXTREMA:
        return rows
    progress = Progress(n, "clusters", f"extrema for k {k}, n_clusters {n}")
    for i, cluster in enumerate(rows):
        seed = row_seed(study, n, cluster.cluster_id, null=null)
        rows[i] = with_extrema(cluster, k, study.extrema, seed)
        progress.advance()
    return rows
