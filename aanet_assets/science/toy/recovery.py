"""What of the truth was found again: clusters and AANets against beliefs or other targets.

Here belong the comparison and its numbers. It sees codes, labels and barycentric coordinates as
plain arrays; where they come from is not its business.
"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from aanet_assets.science.activations.targets import Targets
from aanet_assets.science.toy.observed import Models, Observed
from aanet_assets.science.toy.scores import (
    BarycentricOf,
    CodesOf,
    heldout_r2,
    simplex_scores,
    token_r2,
)

COLUMN_TYPES = {
    "component": "object",
    "kind": "object",
    "cluster_id": "Int64",
    "r2": "float64",
    "token_r2": "float64",
    "leak": "float64",
    "recon_elbow_k": "Int64",
    "arch_elbow_k": "Int64",
    "true_k": "Int64",
    "barycentric_r2": "float64",
    "vertex_purity": "float64",
}
"""Columns of `recover` and their types."""


def recover_observed(seen: Observed, models: Models, table: pd.DataFrame) -> pd.DataFrame:
    """`recover` of what a study saw and learned; `table` is its `consolidated_metrics`."""
    return recover(*seen, models.labels, table, models.barycentric)


def recover(
    train: Targets,
    codes_train: CodesOf,
    heldout: Targets,
    codes_heldout: CodesOf,
    labels: Int[np.ndarray, " latents"],
    table: pd.DataFrame,
    barycentric_of: BarycentricOf,
) -> pd.DataFrame:
    """Compare clusters with what is known; one row per component, or factor, in its order.

    Codes have one row per token; those of one cluster are in memory, beside what is known of all
    tokens. `labels` gives each latent its cluster (-1 for none), `table` has the elbows of each
    cluster (`cluster_id`, `aanet_recon_loss_elbow_k`, `aanet_archetypal_loss_elbow_k`). Clusters
    and components are matched one to one so that the sum of R^2 is largest; a component left
    without a cluster has nulls.

    Columns:
    - component, kind, cluster_id
    - r2: held-out R^2 of a linear map from the activations of the cluster's latents to the
      component's values, over the tokens where they are known (of a process, where it speaks),
      fitted on training tokens
    - token_r2: the same from the current token alone
    - leak: the same from any other cluster, the largest
    - recon_elbow_k, arch_elbow_k: of the cluster; true_k: vertices of the values' simplex, null
      where it is none
    - barycentric_r2: R^2 of a linear map from the barycentric coordinates at true_k to the values,
      over held-out tokens where the cluster is active and they are known, fitted on the first half
      of them and measured on the second
    - vertex_purity: for each vertex, the mean value in its best state over the 200 held-out tokens
      nearest to it, tokens where it is not known counting 0; the smallest over vertices

    Raises ValueError where codes and tokens do not match, or a component is known nowhere or is
    the same everywhere.
    """
    r2, token_r2s = _all_r2(train, codes_train, heldout, codes_heldout, labels)
    elbows = table.drop_duplicates("cluster_id").set_index("cluster_id")
    matched = dict(np.transpose(linear_sum_assignment(r2, maximize=True)).tolist())
    rows = []
    for i, factor in enumerate(heldout.factors):
        row: dict[str, Any] = {
            "component": factor.name,
            "kind": factor.kind,
            "token_r2": token_r2s[i],
            "true_k": factor.true_k,
        }
        if i in matched:
            cluster_id = matched[i]
            row |= {
                "cluster_id": cluster_id,
                "r2": r2[i, cluster_id],
                "leak": max(np.delete(r2[i], cluster_id), default=None),
                "recon_elbow_k": elbows["aanet_recon_loss_elbow_k"].get(cluster_id),
                "arch_elbow_k": elbows["aanet_archetypal_loss_elbow_k"].get(cluster_id),
            }
            if factor.true_k is not None:
                found = barycentric_of(cluster_id, factor.true_k)
                row |= simplex_scores(found, factor.known, factor.values[:, : factor.true_k])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMN_TYPES)).astype(COLUMN_TYPES)


def summary(recovery: pd.DataFrame) -> dict[str, float]:
    """Means over components and the largest leak.

    A component without a cluster counts 0 in `mean_r2`: nothing of it was found. Where there is one
    cluster, it leaks nowhere, and there is no `max_leak`.
    """
    leaks = recovery["leak"].dropna()
    return {
        "mean_r2": float(np.nan_to_num(recovery["r2"].to_numpy()).mean()),
        "mean_token_r2": float(recovery["token_r2"].to_numpy().mean()),
        **({"max_leak": float(leaks.max())} if len(leaks) else {}),
    }


def _all_r2(
    train: Targets,
    codes_train: CodesOf,
    heldout: Targets,
    codes_heldout: CodesOf,
    labels: Int[np.ndarray, " latents"],
) -> tuple[Float[np.ndarray, "components clusters"], Float[np.ndarray, " components"]]:
    """R^2 of each component from each cluster, and from the current token alone."""
    pairs = list(zip(train.factors, heldout.factors, strict=True))
    r2 = np.empty((len(pairs), int(labels.max()) + 1))
    token_r2s = np.empty(len(pairs))
    for i, (own, test) in enumerate(pairs):
        if not (own.known.any() and test.known.any()):
            raise ValueError(
                f"{own.name} is known of {own.known.sum()} training and {test.known.sum()} "
                "held-out tokens; it must be of some of both: use more documents"
            )
        y, y_test = own.values[own.known], test.values[test.known]
        if (y_test == y_test[0]).all():
            raise ValueError(
                f"{own.name} is the same at all {len(y_test)} held-out tokens where it is known; "
                "there is nothing to recover: leave it out, or use more documents"
            )
        token_r2s[i] = token_r2(train.ids[own.known], y, heldout.ids[test.known], y_test)
    for cluster_id in range(r2.shape[1]):
        latents = np.flatnonzero(labels == cluster_id)
        codes, codes_test = codes_train(latents), codes_heldout(latents)
        for which, seen, there in (("training", codes, train), ("held-out", codes_test, heldout)):
            rows = len(seen.indptr) - 1
            if rows != there.ids.size:
                raise ValueError(
                    f"{which} codes have {rows} rows for {there.ids.size} tokens; there must be "
                    "one row per token, BOS left out"
                )
        for i, (own, test) in enumerate(pairs):
            x, x_test = codes[own.known].toarray(), codes_test[test.known].toarray()
            y, y_test = own.values[own.known], test.values[test.known]
            r2[i, cluster_id] = heldout_r2(x, y, x_test, y_test)
    return r2, token_r2s
