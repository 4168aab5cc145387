"""What of the truth was found again: clusters and AANets against the exact beliefs.

Here belong the comparison and its numbers. It sees codes, labels and barycentric coordinates as
plain arrays; where they come from is not its business.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from aanet_assets.toy.observed import Models, Observed
from aanet_assets.toy.process import Process, Spoken, everywhere
from aanet_assets.toy.scores import BarycentricOf, CodesOf, heldout_r2, letter_r2, simplex_scores

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
    process: Process,
    letters_train: Int[np.ndarray, "train_documents length"],
    codes_train: CodesOf,
    letters_heldout: Int[np.ndarray, "heldout_documents length"],
    codes_heldout: CodesOf,
    labels: Int[np.ndarray, " latents"],
    table: pd.DataFrame,
    barycentric_of: BarycentricOf,
) -> pd.DataFrame:
    """Compare clusters with components; one row per component, in the process's order.

    Codes have one row per letter, document by document; those of one cluster are in memory, beside
    the letters and beliefs of all tokens. `labels` gives each latent its cluster (-1
    for none), `table` has the elbows of each cluster (`cluster_id`, `aanet_recon_loss_elbow_k`,
    `aanet_archetypal_loss_elbow_k`). Clusters and components are matched one to one so that the
    sum of R^2 is largest; a component left without a cluster has nulls.

    Columns:
    - component, kind, cluster_id
    - r2: held-out R^2 of a linear map from the activations of the cluster's latents to the
      component's belief, over the tokens where the component speaks, fitted on training tokens
    - token_r2: the same from the current letter alone
    - leak: the same from any other cluster, the largest
    - recon_elbow_k, arch_elbow_k: of the cluster; true_k: vertices of the belief's simplex, null
      where it is none
    - barycentric_r2: R^2 of a linear map from the barycentric coordinates at true_k to the belief,
      over held-out tokens where the cluster is active and the component speaks, fitted on the
      first half of them and measured on the second
    - vertex_purity: for each vertex, the mean belief in its best state over the 200 held-out
      tokens nearest to it, tokens of other components counting 0; the smallest over vertices

    Raises ValueError where codes and letters do not match or a component never speaks.
    """
    train = _tokens(process, letters_train, codes_train, "training")
    heldout = _tokens(process, letters_heldout, codes_heldout, "held-out")
    r2, token_r2 = _all_r2(process, train, heldout, labels)
    elbows = table.drop_duplicates("cluster_id").set_index("cluster_id")
    matched = dict(np.transpose(linear_sum_assignment(r2, maximize=True)).tolist())
    rows = []
    for i, component in enumerate(process.components):
        row: dict[str, Any] = {
            "component": process.names[i],
            "kind": component.kind,
            "token_r2": token_r2[i],
            "true_k": component.true_k,
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
            if component.true_k is not None:
                found = barycentric_of(cluster_id, component.true_k)
                row |= simplex_scores(found, *everywhere(heldout.spoken[i], heldout.letter.size))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMN_TYPES)).astype(COLUMN_TYPES)


def summary(recovery: pd.DataFrame) -> dict[str, float]:
    """Means over components and the largest leak.

    A component without a cluster counts 0 in `mean_r2`: nothing of it was found.
    """
    return {
        "mean_r2": float(np.nan_to_num(recovery["r2"].to_numpy()).mean()),
        "mean_token_r2": float(recovery["token_r2"].to_numpy().mean()),
        "max_leak": float(np.nanmax(recovery["leak"].to_numpy())),
    }


class _Tokens(NamedTuple):
    """What is known of every token, in the order of the codes' rows."""

    which: str
    letter: Int[np.ndarray, " tokens"]
    spoken: list[Spoken]
    codes: CodesOf

    def codes_of(self, latents: Int[np.ndarray, " members"]) -> csr_matrix:
        """Codes of some latents; ValueError where they do not match the letters."""
        codes = self.codes(latents)
        n_rows = len(codes.indptr) - 1
        if n_rows != self.letter.size:
            raise ValueError(
                f"{self.which} codes have {n_rows} rows for {self.letter.size} letters; there must "
                "be one row per letter, BOS left out"
            )
        return codes


def _tokens(
    process: Process,
    letters: Int[np.ndarray, "documents length"],
    codes: CodesOf,
    which: str,
) -> _Tokens:
    """Beliefs beside codes."""
    return _Tokens(which, letters.ravel(), process.spoken(letters), codes)


def _all_r2(
    process: Process, train: _Tokens, heldout: _Tokens, labels: Int[np.ndarray, " latents"]
) -> tuple[Float[np.ndarray, "components clusters"], Float[np.ndarray, " components"]]:
    """R^2 of each component from each cluster, and from the current letter alone."""
    r2 = np.empty((len(process.components), int(labels.max()) + 1))
    token_r2 = np.empty(len(process.components))
    spoken = list(zip(train.spoken, heldout.spoken, strict=True))
    for i, (own, test) in enumerate(spoken):
        if not (own.tokens.size and test.tokens.size):
            raise ValueError(
                f"{process.names[i]} speaks at {own.tokens.size} training and {test.tokens.size} "
                "held-out tokens; it must speak in both: use more documents"
            )
        token_r2[i] = letter_r2(
            train.letter[own.tokens], own.belief, heldout.letter[test.tokens], test.belief
        )
    for cluster_id in range(r2.shape[1]):
        latents = np.flatnonzero(labels == cluster_id)
        codes, codes_test = train.codes_of(latents), heldout.codes_of(latents)
        for i, (own, test) in enumerate(spoken):
            x, x_test = codes[own.tokens].toarray(), codes_test[test.tokens].toarray()
            r2[i, cluster_id] = heldout_r2(x, own.belief, x_test, test.belief)
    return r2, token_r2
