"""What start, schedule and batches do to AANets.

`python -m aanet_assets_tests.benchmarks.training`.

Prints one row per way to train, each some minutes on one thread, over 12 clusters (9 planted
simplices, 3 decoys), k = 2 to 8 and five seeds. Names of ways as arguments choose some.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import threading
import time
from itertools import combinations

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from aanet_assets.science.aanet.data import Task
from aanet_assets.science.aanet.linear_start import start_of
from aanet_assets.science.aanet.stack import Stack
from aanet_assets.science.aanet.train import _groups
from aanet_assets.science.selection.elbows import elbow
from aanet_assets.study.progress import Progress
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.benchmarks.clusters import benchmark_clusters

KS, SEEDS, CLUSTERS = (2, 3, 4, 5, 6, 7, 8), range(5), 12
RANDOM = {
    "start": "random", "lr": 0.0025, "warm_up": 0, "beta2": 0.999, "extrema_fade": 0,
    "batch_size": 512, "max_steps": 900,
}  # fmt: skip
PLATEAU = {**RANDOM, "schedule": "plateau", "max_steps": 3000}
# The rows of one cluster of 768 among 32,768 tokens, as in the median of Gemma Scope's 16k latents.
WINDOW_ROWS = 2300
WAYS = {
    "plateau of single losses": PLATEAU,
    "random, 450 x 512": {**RANDOM, "max_steps": 450},
    "random, 900 x 512": RANDOM,
    "random, 1800 x 512": {**RANDOM, "max_steps": 1800},
    "random, 900 x 256": {**RANDOM, "batch_size": 256},
    "random, 900 x 1,024": {**RANDOM, "batch_size": 1024},
    "random, 900 x all rows of a 32k window": {**RANDOM, "batch_size": WINDOW_ROWS},
    "random, as linear else": {"start": "random"},
    "linear": {},
    "linear, extrema kept": {"extrema_fade": 0},
    "linear, no extrema": {"extrema_weight": 0},
    "linear, no pull": {"start_pull": 0},
    "linear, no pull, no extrema": {"start_pull": 0, "extrema_weight": 0},
    "linear, pull 10": {"start_pull": 10},
    "linear, 300 steps": {"max_steps": 300},
    "linear, batches of 128": {"batch_size": 128},
}


Heldout = dict[tuple[int, int, int], dict[str, float]]
"""Held-out losses by seed, cluster and k."""


def row_for(name: str, d_model: int, first_seed: int, first: Heldout) -> list[str]:
    """The numbers of one way to train; the first way's losses are put into `first`."""
    settings = AANetSettings(**WAYS[name])
    clusters, planted = benchmark_clusters(CLUSTERS, d_model, 20_000, (6, 30), seed=first_seed)
    keys = [(seed, c.cluster_id, k) for seed in SEEDS for k in KS for c in clusters]
    tasks = [Task(clusters[c], k, 1000 * (first_seed + seed) + c) for seed, c, k in keys]
    started, models = time.process_time(), {}
    progress = Progress(1, "steps", name)
    with torch.no_grad():
        for group in _groups(tasks, range(len(tasks)), settings, "cpu"):
            own = [tasks[i] for i in group.members]
            begun = [start_of(task, settings) for task in own]
            trained = Stack(own, begun, group.slots, group.layout, settings, "cpu")
            results = trained.train(progress, threading.Event())
            models |= zip([keys[i] for i in group.members], results, strict=True)
    seconds = time.process_time() - started
    by_key = {key: model.heldout for key, model in models.items()}
    heldout = list(by_key.values())
    if not first:
        first |= by_key

    def to_first(loss: str) -> str:
        # Where nothing lies outside, an archetypal loss is 0.
        own = [
            np.log2((one[loss] + 1e-9) / (first[key][loss] + 1e-9)) for key, one in by_key.items()
        ]
        return f"{np.median(own):+.2f}"

    recon = np.exp(np.mean([np.log(h["recon_loss"]) for h in heldout]))
    archetypal = np.mean([h["archetypal_loss"] for h in heldout])
    spread = np.median([
        np.std([np.log2(models[s, c, k].heldout["recon_loss"]) for s in SEEDS])
        for c in range(CLUSTERS)
        for k in KS
    ])  # fmt: skip
    elbows = {
        (loss, seed, c): elbow(KS, [models[seed, c, k].losses[loss] for k in KS]).k
        for loss in ("recon_loss", "archetypal_loss")
        for seed in SEEDS
        for c in range(CLUSTERS)
    }
    simplices = [c for c in range(CLUSTERS) if planted[c] is not None]
    right, right_too = (
        np.mean([elbows[loss, s, c] == planted[c] for s in SEEDS for c in simplices])
        for loss in ("recon_loss", "archetypal_loss")
    )

    def repeats(loss: str) -> float:
        pairs = [(a, b, c) for a, b in combinations(SEEDS, 2) for c in range(CLUSTERS)]
        return float(np.mean([elbows[loss, a, c] == elbows[loss, b, c] for a, b, c in pairs]))

    return [
        name, f"{np.mean([m.steps for m in models.values()]):.0f}", f"{seconds:.0f}",
        f"{recon:.2e}", to_first("recon_loss"), f"{archetypal:.2e}", to_first("archetypal_loss"),
        f"{spread:.3f}",
        f"{100 * right:.0f}%", f"{100 * right_too:.0f}%",
        f"{100 * repeats('recon_loss'):.0f}%", f"{100 * repeats('archetypal_loss'):.0f}%",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", default=list(WAYS), help=f"of {', '.join(WAYS)}")
    parser.add_argument("--d-model", type=int, default=256)
    parser.add_argument("--seed", type=int, default=5, help="of clusters, and first of training")
    torch.set_num_threads(1)
    table = Table(
        "", "mean steps", "CPU s", "held-out recon (geometric mean)", "log2 to the first (median)",
        "held-out archetypal", "log2 to the first ",
        "spread over seeds (sd of log2 recon)", "recon elbow is the planted k",
        "archetypal elbow is the planted k", "recon elbow repeats", "archetypal elbow repeats",
    )  # fmt: skip
    arguments, first = parser.parse_args(), {}
    for name in arguments.ways:
        row = row_for(name, arguments.d_model, arguments.seed, first)
        print(" | ".join(row), flush=True)
        table.add_row(*row)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
