"""How fast the AANet engine is, beside plain training: `make bench` (about 12 minutes, one thread).

Prints, in alternation within one process and in CPU seconds: the time of an optimisation step per
model; a whole sweep over k with the held-out losses side by side; peak memory; and what 768
clusters times 7 values of k would cost.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["LOKY_MAX_CPU_COUNT"] = "1"

import argparse
import resource
import time
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from aanet_assets.science.aanet.batches import Layout
from aanet_assets.science.aanet.data import Task
from aanet_assets.science.aanet.layers import layers
from aanet_assets.science.aanet.reference import Trainer
from aanet_assets.science.aanet.stack import Stack
from aanet_assets.science.aanet.train import ROWS_PER_STEP, train_aanets
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.benchmarks.clusters import benchmark_clusters
from aanet_assets_tests.benchmarks.training import PLATEAU
from aanet_assets_tests.science.aanet.planted import heldout_of

RANK, REPEATS = 20, 5
SHAPES = ((2304, 100), (3584, 256), (3584, 512), (3584, 2700))
KS = (2, 3, 4, 5, 6, 7, 8)
console = Console(width=120)


def plain_step(trainer: Trainer, steps: int) -> float:
    """CPU seconds of one step of the plain trainer."""
    started = time.process_time()
    for _ in range(steps):
        rows = trainer.batch()
        trainer.step(rows, torch.randn(len(rows), trainer.k - 1) * trainer.settings.noise)
    return (time.process_time() - started) / steps


def stack_step(stack: Stack, models: int, steps: int) -> float:
    """CPU seconds of one step of one model of a stack."""
    started = time.process_time()
    with torch.no_grad():
        stack.run(steps)
    return (time.process_time() - started) / steps / models


def products(stack: Stack, models: int, steps: int) -> float:
    """CPU seconds of the matrix products alone of one step of one model of a stack."""
    work, adam = stack.objective.workspace, stack.adam
    called: list[tuple[Tensor, Tensor, Tensor]] = []
    for part, first, outputs in (
        ("encoder", work.rows, work.encoder), ("decoder", work.noisy, work.decoder)
    ):  # fmt: skip
        weights, gradients = (
            [weight for weight, _ in layers(by_name, part)]
            for by_name in (adam.parameters_by_name, adam.gradient_by_name)
        )
        inputs = [first, *outputs[:-1]]
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            called.append((inputs[i], weight.mT, outputs[i]))
            # The slopes have the shapes of the outputs; those of rows are asked for by nobody.
            if weight.shape[1] > weight.shape[2]:
                called.append((inputs[i].mT, outputs[i], gradient.mT))
            else:
                called.append((outputs[i].mT, inputs[i], gradient))
            if part == "decoder" or i:
                called.append((outputs[i], weight, torch.empty_like(inputs[i])))
    started = time.process_time()
    with torch.no_grad():
        for _ in range(steps):
            for one, other, out in called:
                torch.bmm(one, other, out=out)
    return (time.process_time() - started) / steps / models


def steps_table() -> None:
    """Time per step and model, plain and stacked in alternation."""
    table = Table(
        "d_model", "rows", "models in a stack", "plain, ms", "span, ms", "ratio of medians",
        "its products alone, ms", "share",
        title=f"One optimisation step of one model (rank {RANK}, k 4)",
    )  # fmt: skip
    for d_model, rows in SHAPES:
        settings = AANetSettings(batch_size=rows, max_steps=100_000)
        models = max(1, ROWS_PER_STEP // (rows + 4))
        clusters, _ = benchmark_clusters(models, d_model, rows * 10 // 9 + 9, (RANK, RANK))
        tasks = [Task(cluster, 4, seed) for seed, cluster in enumerate(clusters)]
        begun = ["for a benchmark"] * models
        stack = Stack(tasks, begun, models, Layout(24, 4, rows), settings, "cpu")
        trainer = Trainer(clusters[0], 4, settings, seed=0)
        plain_step(trainer, 2)
        stack_step(stack, models, 5)
        plain, span, bound = [], [], []
        for _ in range(REPEATS):
            bound.append(products(stack, models, 60))
            plain.append(plain_step(trainer, 8))
            span.append(stack_step(stack, models, 60))
        ratio = median(plain) / median(span)
        table.add_row(
            f"{d_model}", f"{rows}", f"{models}", f"{1e3 * median(plain):.2f}",
            f"{1e3 * median(span):.3f}", f"{ratio:.0f}", f"{1e3 * median(bound):.3f}",
            f"{100 * median(bound) / median(span):.0f}%",
        )  # fmt: skip
    console.print(table)


def sweep_table(count: int, plain_models: int) -> None:
    """A sweep of planted clusters over k, and some of its models trained plainly as well."""
    # The plain trainer's own start and schedule, for losses that compare.
    d_model, settings = 3584, AANetSettings(**PLATEAU)
    clusters, planted = benchmark_clusters(count, d_model, 6_000, (6, 40))
    tasks = [Task(cluster, k, 43 + cluster.cluster_id) for k in KS for cluster in clusters]
    started = time.process_time()
    results = {(m.cluster_id, m.k): m for m in train_aanets(tasks, settings)}
    span_seconds = (time.process_time() - started) / len(results)
    chosen = np.random.default_rng(0).choice(len(results), plain_models, replace=False)
    table = Table(
        "cluster", "planted k", "k", "steps plain", "steps span", "held-out recon plain",
        "held-out recon span", "log2 ratio", title="The same models, trained both ways",
    )  # fmt: skip
    plain_seconds, ratios = [], []
    for place in chosen:
        cluster_id, k = list(results)[place]
        model = results[cluster_id, k]
        started = time.process_time()
        trainer = Trainer(clusters[cluster_id], k, settings, seed=43 + cluster_id)
        steps = len(trainer.run())
        plain_seconds.append(time.process_time() - started)
        plain, span = trainer.heldout_recon(), heldout_of(model)["recon_loss"]
        ratios.append(np.log2(span / plain))
        table.add_row(
            f"{cluster_id}", f"{planted[cluster_id]}", f"{k}", f"{steps}", f"{model.steps}",
            f"{plain:.3e}", f"{span:.3e}", f"{ratios[-1]:+.2f}",
        )  # fmt: skip
    console.print(table)
    seconds = float(np.mean(plain_seconds))
    console.print(
        f"CPU seconds per model: plain {seconds:.2f} (mean of {plain_models}), span "
        f"{span_seconds:.3f} (mean of {len(results)}): {seconds / span_seconds:.0f} times. "
        f"Median log2 ratio of held-out reconstruction losses {median(ratios):+.3f}."
    )
    console.print(
        f"768 clusters x 7 ks at that rate: {768 * 7 * span_seconds / 3600:.2f} core-hours span, "
        f"{768 * 7 * seconds / 3600:.0f} plain."
    )
    right = [
        heldout_of(results[c.cluster_id, k])["explained_variance"]
        for c, k in zip(clusters, planted, strict=True)
        if k is not None
    ]
    console.print(f"Held-out variance explained at the planted k: median {median(right):.3f}.")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=48, help="planted clusters of the sweep")
    parser.add_argument("--plain", type=int, default=12, help="models trained plainly as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps_table()
    sweep_table(arguments.clusters, arguments.plain)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    console.print(f"Peak memory {peak / 2**20:.2f} GiB, of which {before / 2**20:.2f} before.")


if __name__ == "__main__":
    main()
