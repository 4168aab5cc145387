"""What schedule and batch size do to AANets: `python -m aanet_assets_tests.benchmarks.training`.

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

from aanet_assets.aanet.data import Task
from aanet_assets.aanet.stack import Stack
from aanet_assets.aanet.train import _groups
from aanet_assets.selection.elbows import elbow
from aanet_assets.study.progress import Progress
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.benchmarks.clusters import benchmark_clusters
from aanet_assets_tests.benchmarks.schedules import HeldoutStack, SmoothedStack

KS, SEEDS, CLUSTERS = (2, 3, 4, 5, 6, 7, 8), range(5), 12
PLATEAU = {"schedule": "plateau", "max_steps": 3000}
# The rows of one cluster of 768 among 32,768 tokens, as in the median of Gemma Scope's 16k latents.
WINDOW_ROWS = 2300
WAYS = {
    "plateau of single losses": (Stack, PLATEAU),
    "plateau of means of 100": (SmoothedStack, PLATEAU),
    "plateau of held-out loss": (HeldoutStack, {**PLATEAU, "plateau_patience": 60}),
    "cosine, 450 steps": (Stack, {"max_steps": 450}),
    "cosine, 900 steps": (Stack, {}),
    "cosine, 1800 steps": (Stack, {"max_steps": 1800}),
    "batches of 256": (Stack, {"batch_size": 256}),
    "batches of 1,024": (Stack, {"batch_size": 1024}),
    "all rows of a 32k window": (Stack, {"batch_size": WINDOW_ROWS}),
}


def row_for(name: str) -> list[str]:
    """The numbers of one way to train."""
    stack, changes = WAYS[name]
    settings = AANetSettings(**changes)
    clusters, planted = benchmark_clusters(CLUSTERS, 256, 20_000, (6, 30), seed=5)
    keys = [(seed, c.cluster_id, k) for seed in SEEDS for k in KS for c in clusters]
    tasks = [Task(clusters[c], k, 1000 * seed + c) for seed, c, k in keys]
    started, models = time.process_time(), {}
    progress = Progress(1, "steps", name)
    with torch.no_grad():
        for group in _groups(tasks, range(len(tasks)), settings, "cpu"):
            own = [tasks[i] for i in group.members]
            trained = stack(own, group.slots, group.layout, settings, "cpu")
            results = trained.train(progress, threading.Event())
            models |= zip([keys[i] for i in group.members], results, strict=True)
    seconds = time.process_time() - started
    heldout = [model.heldout for model in models.values()]
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
    right = np.mean([elbows["recon_loss", s, c] == planted[c] for s in SEEDS for c in simplices])

    def repeats(loss: str) -> float:
        pairs = [(a, b, c) for a, b in combinations(SEEDS, 2) for c in range(CLUSTERS)]
        return float(np.mean([elbows[loss, a, c] == elbows[loss, b, c] for a, b, c in pairs]))

    return [
        name, f"{np.mean([m.steps for m in models.values()]):.0f}", f"{seconds:.0f}",
        f"{recon:.2e}", f"{archetypal:.2e}", f"{spread:.3f}", f"{100 * right:.0f}%",
        f"{100 * repeats('recon_loss'):.0f}%", f"{100 * repeats('archetypal_loss'):.0f}%",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", default=list(WAYS), help=f"of {', '.join(WAYS)}")
    torch.set_num_threads(1)
    table = Table(
        "", "mean steps", "CPU s", "held-out recon (geometric mean)", "held-out archetypal",
        "spread over seeds (sd of log2 recon)", "recon elbow is the planted k",
        "recon elbow repeats", "archetypal elbow repeats",
    )  # fmt: skip
    for name in parser.parse_args().ways:
        table.add_row(*row_for(name))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
