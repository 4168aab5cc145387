"""Tables of given elbows, one cluster each, for the tests of selection and of the plots."""

import pandas as pd

KS = (2, 3, 4, 5, 6, 7, 8)


def elbow_table(elbows: list[dict], n_clusters: int) -> pd.DataFrame:
    """A table with given values for cluster 0, 1, ...; what is not given passes every filter."""
    good = {
        "n_latents": 4,
        "aanet_status": "ok",
        "aanet_recon_loss_elbow_k": 3,
        "aanet_recon_loss_elbow_strength": 0.3,
        "recon_pct_decrease": 80.0,
        "recon_is_monotonic": True,
        "aanet_archetypal_loss_elbow_k": 3,
        "aanet_archetypal_loss_elbow_strength": 0.3,
        "arch_pct_decrease": 80.0,
        "arch_is_monotonic": True,
        "k_differential": 0,
    }
    rows = [
        {"n_clusters_total": n_clusters, "cluster_id": c, "aanet_k": k, **good, **values}
        for c, values in enumerate(elbows)
        for k in KS
    ]
    columns = ["n_clusters_total", "cluster_id", "aanet_k", *good]
    return pd.DataFrame(rows, columns=columns)


NO_ELBOW = {
    "aanet_recon_loss_elbow_k": None,
    "aanet_recon_loss_elbow_strength": None,
    "recon_pct_decrease": None,
    "recon_is_monotonic": None,
    "aanet_archetypal_loss_elbow_k": None,
    "aanet_archetypal_loss_elbow_strength": None,
    "arch_pct_decrease": None,
    "arch_is_monotonic": None,
    "k_differential": None,
}
