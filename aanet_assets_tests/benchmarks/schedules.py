"""What the plateau schedule's window does to AANets: `python -m ...benchmarks.schedules 1 20 100`.

The original lowers the learning rate by the raw, noisy loss of each step. Each argument is a
`plateau_window`; each takes some minutes on one thread. Prints one row per window, over 12 clusters
(9 planted simplices, 3 decoys), k = 2 to 8 and five seeds.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from itertools import combinations

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from aanet_assets.analysis.elbows import elbow
from aanet_assets.settings import AANetSettings
from aanet_assets_tests.benchmarks.clusters import benchmark_clusters

KS, SEEDS, CLUSTERS = (2, 3, 4, 5, 6, 7, 8), range(5), 12


def row_for(window: int) -> list[str]:
    """The numbers of one window."""
    settings = AANetSettings(plateau_window=window)
    clusters, planted = benchmark_clusters(CLUSTERS, 256, 6_000, (6, 30), seed=5)
    started, models = time.process_time(), {}
    for seed in SEEDS:
        seeds = [1000 * seed + cluster.cluster_id for cluster in clusters]
        for k in KS:
            for model in train_clusters(clusters, k, settings, seeds):
                models[seed, model.cluster_id, k] = model
    seconds = time.process_time() - started
    heldout = [model.heldout for model in models.values()]
    recon = np.exp(np.mean([np.log(h["recon_loss"]) for h in heldout]))
    archetypal = np.mean([h["archetypal_loss"] for h in heldout])
    elbows = {
        (loss, seed, c): elbow(KS, [models[seed, c, k].losses[loss] for k in KS]).k
        for loss in ("recon_loss", "archetypal_loss")
        for seed in SEEDS
        for c in range(CLUSTERS)
    }
    simplices = [c for c in range(CLUSTERS) if planted[c] is not None]
    right = np.mean([elbows["recon_loss", s, c] == planted[c] for s in SEEDS for c in simplices])

    def repeats(loss: str) -> float:
        pairs = list(combinations(SEEDS, 2))
        return float(
            np.mean(
                [
                    elbows[loss, a, c] == elbows[loss, b, c]
                    for a, b in pairs
                    for c in range(CLUSTERS)
                ]
            )
        )

    return [
        f"{window}", f"{np.mean([m.steps for m in models.values()]):.0f}", f"{seconds:.0f}",
        f"{recon:.2e}", f"{archetypal:.2e}", f"{100 * right:.0f}%",
        f"{100 * repeats('recon_loss'):.0f}%", f"{100 * repeats('archetypal_loss'):.0f}%",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("windows", type=int, nargs="+")
    torch.set_num_threads(1)
    table = Table(
        "window", "mean steps", "CPU s", "held-out recon (geometric mean)", "held-out archetypal",
        "recon elbow is the planted k", "recon elbow repeats", "archetypal elbow repeats",
    )  # fmt: skip
    for window in parser.parse_args().windows:
        table.add_row(*row_for(window))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
