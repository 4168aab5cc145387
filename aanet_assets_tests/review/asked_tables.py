"""Tables of what a model was asked, made up: clusters of 3, 2, 4 and 6 vertices, one without."""

import numpy as np
import pandas as pd

from aanet_assets.review.functional import Asked
from aanet_assets.science.belief.evidence import COMPARED, gather

KS = (3, 2, 4, 6)
NONE = len(KS)
"""Number of the cluster without a simplex."""
STATISTICS = (*COMPARED, "context")


def asked_tables(nulls: int = 120) -> Asked:
    """Null clusters have 4 latents each, but for the last 20, which have 40; real ones 5.

    Cluster 0 is a component of a known process, and the only one with a true chain. Cluster 1 has
    no two steps, and no other cluster to be steered along.
    """
    rng = np.random.default_rng(0)
    ids = [*range(NONE + 1), *range(nulls)]
    null_cluster = [False] * (NONE + 1) + [True] * nulls
    fits = pd.DataFrame(
        {
            "cluster_id": ids,
            "null_cluster": null_cluster,
            "n_latents": [5] * (NONE + 1) + [4 if i < nulls - 20 else 40 for i in range(nulls)],
            "k": pd.array([*KS, pd.NA, *[3] * nulls], dtype="Int64"),
            "unavailable": [""] * NONE + ["no simplex: its rows do not vary"] + [""] * nulls,
        }
    )
    there = fits[fits["k"].notna()].reset_index(drop=True)
    values = {name: rng.uniform(0.1, 0.6, len(there)) for name in STATISTICS}
    statistics = there.assign(**values, unavailable="")
    statistics.loc[: NONE - 1, "kl_explained"] = [0.98765432, 0.96, 0.94, 0.9]
    statistics.loc[1, "two_step_r2"] = np.nan
    own = ["cluster_id", "null_cluster", "unavailable"]
    prediction, update, edits = (
        statistics[[*own, *names]].copy()
        for names in (
            ("kl_explained",),
            ("prediction_r2", "two_step_r2"),
            ("int_r2", "context", "moved"),
        )
    )
    update.loc[1, "unavailable"] = "fewer than 100 pairs of steps have operators"
    steering = there[there["cluster_id"] < NONE].assign(
        reached=0.98, true_reached=np.nan, random=0.1, random_in_span=-0.5, other_cluster=0.2,
        removed=-12.5, unavailable="",
    )  # fmt: skip
    steering.loc[0, "true_reached"] = 0.9876543
    steering.loc[1, "other_cluster"] = np.nan
    steering.loc[3, ["reached", "unavailable"]] = np.nan, "4 tokens for 6 vertices"
    return Asked(
        gather(fits, [prediction, update, edits, steering[[*own, "reached"]]]),
        [prediction, update, edits],
        pd.concat([_chain(i, k, rng) for i, k in enumerate(KS[:3])], ignore_index=True),
        steering,
        pd.concat([_tokens(i, k, rng) for i, k in enumerate(KS)], ignore_index=True),
        pd.concat([_doses(i, k) for i, k in enumerate(KS)], ignore_index=True),
    )


def _chain(cluster_id: int, k: int, rng: np.random.Generator) -> pd.DataFrame:
    p = rng.dirichlet(np.ones(k), k)
    i, j = (each.ravel() for each in np.indices((k, k)))
    true = np.where(i == j, 0.88, 0.12 / (k - 1)) if cluster_id == 0 else np.nan
    return pd.DataFrame(
        {
            "cluster_id": cluster_id,
            "from_vertex": i,
            "to_vertex": j,
            "probability": p.ravel(),
            "low": 0.9 * p.ravel(),
            "high": np.minimum(1.1 * p.ravel(), 1),
            "true_probability": true,
        }
    )


def _tokens(cluster_id: int, k: int, rng: np.random.Generator) -> pd.DataFrame:
    b = rng.dirichlet(np.full(k, 0.5), 400)
    p = np.column_stack([0.1 + 0.6 * b[:, 0], 0.7 - 0.6 * b[:, 0], 0.0123 * b[:, 1]])
    return pd.DataFrame(
        {"cluster_id": cluster_id, "token_id": 7, "coordinates": list(b), "probabilities": list(p)}
    )


def _doses(cluster_id: int, k: int) -> pd.DataFrame:
    doses = np.linspace(0, 1, 11)
    return pd.concat(
        pd.DataFrame(
            {
                "cluster_id": cluster_id,
                "rank": rank,
                "next_token": token,
                "group_tokens": tokens,
                "from_vertex": rank % k,
                "to_vertex": (rank + 1) % k,
                "coordinate": doses,
                "probability": 0.1 + 0.6 * doses**2,
                "low": 0.08 + 0.6 * doses**2,
                "high": 0.12 + 0.6 * doses**2,
                "mixture": 0.1 + 0.6 * doses,
            }
        )
        for rank, (token, tokens) in enumerate(((" the", 1), ("\n", 54), ("x" * 40, 1)))
    )
