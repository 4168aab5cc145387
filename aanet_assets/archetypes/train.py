"""Training AANets of many clusters at one k.

Here: which clusters can be trained, and how they are grouped into stacks. The training of a stack
is in `stack.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from aanet_assets.archetypes.data import ClusterRows, TrainedAANet, untrained
from aanet_assets.archetypes.stack import Stack
from aanet_assets.progress import Progress
from aanet_assets.settings import AANetSettings

ROWS_PER_STEP = {"cpu": 8_000, "cuda": 500_000}
"""Rows times models of a stack: on a CPU its activations should stay in the cache."""


def train_stack(
    clusters: Sequence[ClusterRows],
    k: int,
    settings: AANetSettings,
    seeds: Sequence[int],
    device: str = "cpu",
) -> list[TrainedAANet]:
    """Train one AANet with k archetypes per cluster, in the clusters' subspaces.

    `seeds` holds one seed per cluster, which alone fixes what is random about that cluster's
    model. Results come in the order of `clusters`, with a status for those that cannot be trained.
    ValueError where k < 2, where seeds and clusters differ in number, or where the clusters live
    in residual streams of different width.
    """
    if k < 2:
        raise ValueError(f"an AANet needs at least 2 archetypes, not {k}")
    if len(seeds) != len(clusters):
        raise ValueError(f"{len(seeds)} seeds for {len(clusters)} clusters; give one per cluster")
    if len(widths := {c.basis.shape[0] for c in clusters}) > 1:
        raise ValueError(f"clusters of one call must share d_model; these have {sorted(widths)}")
    results: dict[int, TrainedAANet] = {}
    trainable: list[int] = []
    for i, cluster in enumerate(clusters):
        obstacle = _obstacle(cluster, k, settings)
        if obstacle is None:
            trainable.append(i)
        else:
            results[i] = untrained(cluster, k, *obstacle)
    progress = Progress(len(trainable) * settings.max_steps, "model steps", f"AANets with k={k}")
    with _one_thread(), torch.no_grad():
        for rank, batch_rows, members in _stacks(clusters, trainable, k, settings, device):
            stack = Stack(
                [clusters[i] for i in members],
                k,
                settings,
                [seeds[i] for i in members],
                rank,
                batch_rows,
                device,
            )
            results |= zip(members, stack.train(progress), strict=True)
    return [results[i] for i in range(len(clusters))]


def _obstacle(cluster: ClusterRows, k: int, settings: AANetSettings) -> tuple[str, str] | None:
    """Status and reason of a cluster that cannot be trained."""
    n_rows = len(cluster.train) + len(cluster.heldout)
    needed = max(settings.min_rows, k)
    if n_rows == 0:
        return "empty", "the cluster is active at no token"
    if n_rows < needed:
        return "insufficient_samples", f"{n_rows} rows; training with k={k} needs {needed}"
    if len(cluster.train) == 0:
        return "insufficient_samples", f"all {n_rows} rows are held out; none is left to train on"
    if cluster.basis.shape[1] == 0:
        return "failed", "the cluster's decoder rows span nothing (rank 0)"
    for name in ("train", "heldout", "extrema"):
        if not np.isfinite(getattr(cluster, name)).all():
            return "failed", f"{name} rows hold nan or infinite values"
    return None


def _stacks(
    clusters: Sequence[ClusterRows],
    members: Sequence[int],
    k: int,
    settings: AANetSettings,
    device: str,
) -> Iterator[tuple[int, int, list[int]]]:
    """Clusters that train together: padded rank, padded rows of a batch, members.

    What a cluster is padded to depends on itself alone, so that its neighbours matter to its
    result no more than they must.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for i in members:
        rank = _up_to_multiple(clusters[i].basis.shape[1], 8)
        rows = _up_to_multiple(min(len(clusters[i].train), settings.batch_size), 64)
        groups.setdefault((rank, min(rows, settings.batch_size)), []).append(i)
    for (rank, rows), group in sorted(groups.items()):
        size = max(1, ROWS_PER_STEP[device] // (rows + k))
        for start in range(0, len(group), size):
            yield rank, rows, group[start : start + size]


def _up_to_multiple(number: int, of: int) -> int:
    return -(-number // of) * of


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on several threads, many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
