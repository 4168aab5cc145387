"""Consolidated tables made up for tests."""

import numpy as np
import pandas as pd

from aanet_assets.science.selection.consolidate import consolidate


def consolidated(
    n_clusters: int, seed: int = 0, ks: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8), failed: int = 0
) -> pd.DataFrame:
    """Noisy falling losses; the last `failed` clusters could not be trained."""
    rng = np.random.default_rng(seed)
    metrics, clusters = [], []
    for cluster_id in range(n_clusters):
        ok = cluster_id < n_clusters - failed
        elbow_k = rng.integers(3, 7)
        for k in ks:
            fall = np.exp(-1.5 * (min(k, elbow_k) - 2)) + 0.02 * (8 - k)
            recon, arch = fall * rng.uniform(0.9, 1.1, 2) if ok else (np.nan, np.nan)
            metrics.append(
                {
                    "cluster_id": cluster_id,
                    "aanet_k": k,
                    "aanet_status": "ok" if ok else "empty",
                    "aanet_reason": "" if ok else "the cluster is active at no token",
                    "aanet_loss": recon + 4 * arch,
                    "aanet_recon_loss": recon,
                    "aanet_archetypal_loss": arch,
                    "aanet_extrema_loss": np.nan,
                    "n_rows": 1000,
                    "steps": 500,
                    "heldout_explained_variance": 0.9 if ok else np.nan,
                }
            )
        size = int(rng.geometric(0.05))
        rank = int(rng.integers(1, size + 1))
        clusters.append(
            {
                "cluster_id": cluster_id,
                "n_latents": size,
                "latent_indices": [int(i) for i in rng.integers(0, 9999, size)],
                "cluster_recon_error": 0.1,
                "decoder_dir_rank": rank,
                "activation_pca_rank": int(rng.integers(0, rank + 1)),
                "average_l0": 68.5,
            }
        )
    return consolidate(
        pd.DataFrame(metrics), pd.DataFrame(clusters),
        n_clusters=n_clusters, sae_id="release/id",
    )  # fmt: skip
