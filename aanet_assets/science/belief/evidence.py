"""All that the model does with each cluster's simplex, in one row, compared with null clusters."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aanet_assets.science.selection.evidence import empirical_p, q_values

COMPARED = ("kl_explained", "prediction_r2", "two_step_r2", "int_r2", "moved")
"""Statistics of which more is more, and which null clusters have, too."""
FEWEST_NULLS = 20
"""Null clusters with a statistic, under which p-values are not given: the least would be 0.05."""


def gather(fits: pd.DataFrame, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """A row per cluster of `fits`, with the statistics of the other tables.

    p-values are those of real clusters among null ones of like size (`empirical_p`), q-values
    Benjamini and Hochberg's; with fewer than 20 null clusters there are none. `unavailable` joins
    the reasons of all.
    """
    keys = ["cluster_id", "null_cluster"]
    whole = fits[[*keys, "n_latents", "k", "unavailable"]]
    reasons = [whole["unavailable"]]
    for table in tables:
        new = [name for name in table.columns if name not in whole.columns]
        joined = whole.merge(table[[*keys, *new, "unavailable"]], on=keys, how="left",
                             suffixes=("", "_of_it"))  # fmt: skip
        reasons.append(joined.pop("unavailable_of_it").fillna(""))
        whole = joined
    null_cluster = whole["null_cluster"].to_numpy(bool)
    sizes = whole["n_latents"].to_numpy(np.float64)
    few = []
    for name in COMPARED:
        values = whole[name].to_numpy(np.float64, na_value=np.nan)
        p = np.full(len(whole), np.nan)
        count = int(np.isfinite(values[null_cluster]).sum())
        if count >= FEWEST_NULLS:
            own = ~null_cluster
            p[own] = empirical_p(values[own], sizes[own], values[null_cluster], sizes[null_cluster])
        else:
            few.append(f"{name} has {too_few(count)}")
        whole[f"{name}_p"], whole[f"{name}_q"] = p, q_values(p)
    said = [
        "; ".join(dict.fromkeys(filter(None, (*row, *([] if null else few)))))
        for *row, null in zip(*reasons, null_cluster, strict=True)
    ]
    return whole.assign(unavailable=said)


def too_few(nulls: int) -> str:
    """Why a statistic that so many null clusters have has no p-value."""
    return f"{nulls} null clusters, and p-values need {FEWEST_NULLS}"
