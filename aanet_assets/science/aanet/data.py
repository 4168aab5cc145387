"""What goes into AANet training and what comes out of it, for one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aanet_assets.study.seeds import seed_for
from aanet_assets.study.study import Study

LOSSES = ("loss", "recon_loss", "archetypal_loss", "extrema_loss")


@dataclass(frozen=True)
class ClusterRows:
    """Rows of one cluster in the cluster's own subspace.

    A row z stands for x = z @ basis.T in the residual stream. A cluster without rows may have
    rank 0, and `extrema` may have no rows.
    """

    cluster_id: int
    basis: Float[np.ndarray, "d_model rank"]
    """Orthonormal columns that span the cluster's decoder rows."""
    train: Float[np.ndarray, "train rank"]
    """Rows that train."""
    heldout: Float[np.ndarray, "heldout rank"]
    """Rows kept out of training."""
    extrema: Float[np.ndarray, "extrema rank"]
    """Diffusion extrema of the training rows, most extreme first."""


@dataclass(frozen=True)
class Task:
    """One AANet to train."""

    rows: ClusterRows
    k: int
    seed: int
    """Alone fixes what is random about the model."""


@dataclass(frozen=True)
class TrainedAANet:
    """One (cluster, k): how training ended, and the network in the cluster's subspace."""

    cluster_id: int
    k: int
    status: str
    """`ok`, `insufficient_samples`, `empty` or `failed`."""
    reason: str
    """Why the status is not `ok`, in words; empty where it is."""
    n_rows: int
    """Training and held-out rows together."""
    steps: int
    """Steps trained."""
    losses: dict[str, float] | None
    """Medians of the last `smoothing_window` steps, by the names in `LOSSES`; nan for an extrema
    loss that was off because there were fewer than k extrema. None unless the status is `ok`."""
    heldout: dict[str, float] | None
    """On held-out rows, without noise: `loss` (without its extrema term), `recon_loss`,
    `archetypal_loss`, `explained_variance` (1 - SS_res / SS_tot, SS_tot about the training mean)
    and `in_simplex` (share of rows without a negative barycentric coordinate). None where there
    are no such rows or the status is not `ok`."""
    history: dict[str, Float[np.ndarray, " steps"]]
    """The losses of every step, by the names in `LOSSES`; those before the failure where training
    failed; empty where nothing was trained."""
    weights: dict[str, Float[np.ndarray, "..."]]
    """State dict of `AANet` with rank in place of d_model; empty unless the status is `ok`."""
    start: str = ""
    """Where training started: `linear`, or `random` and why; empty where there is no model."""


def untrained(
    task: Task,
    status: str,
    reason: str,
    history: dict[str, Float[np.ndarray, " steps"]] | None = None,
) -> TrainedAANet:
    """The result of a task that has no model; `history` holds the steps before it failed."""
    history = history or {}
    return TrainedAANet(
        cluster_id=task.rows.cluster_id,
        k=task.k,
        status=status,
        reason=reason,
        n_rows=len(task.rows.train) + len(task.rows.heldout),
        steps=len(history.get("loss", ())),
        losses=None,
        heldout=None,
        history=history,
        weights={},
    )


def tasks_of(study: Study, n: int, k: int, rows: Sequence[ClusterRows]) -> list[Task]:
    """The AANets of stage 1 at one k, one per cluster."""
    seed, name = study.aanet.seed, study.name
    return [Task(own, k, seed_for(seed, name, n, own.cluster_id, k)) for own in rows]
