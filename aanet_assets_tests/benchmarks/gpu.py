"""The engine and the reader on a GPU, unattended, in about ten minutes on one H100.

`python -m aanet_assets_tests.benchmarks.gpu`; `--small` on a CPU shows that it runs. Prints, and
appends to gpu.md in the folder where it is started: a whole canonical grid, 768 clusters at seven
ks and d_model 3584; how much of the device's bandwidth its steps reach; how far models move with
the number that share a stack; and tokens per second of a model shaped as Gemma-2-9B, of random
weights, read up to layer 20.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from aanet_assets.science.aanet.batches import Layout
from aanet_assets.science.aanet.data import Task
from aanet_assets.science.aanet.linear_start import start_of
from aanet_assets.science.aanet.parameters import parameter_shapes
from aanet_assets.science.aanet.stack import Stack
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.benchmarks.clusters import benchmark_clusters

SETTINGS, RANK, REPEATS = AANetSettings(), 20, 5


def waited(device: str) -> float:
    """The time, once the device has done all that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Median of some runs, after one that counts for nothing."""
    work()
    found = []
    for _ in range(REPEATS):
        started = waited(device)
        work()
        found.append(waited(device) - started)
    return median(found)


def grid(device: str, clusters: int, d_model: int, ks: range) -> Iterator[str]:
    """Train every cluster at every k."""
    rows, _ = benchmark_clusters(min(clusters, 48), d_model, 6_000, (6, 40))
    for k in ks:
        tasks = [Task(rows[i % len(rows)], k, i) for i in range(clusters)]
        started = waited(device)
        trained = train_aanets(tasks, SETTINGS, device)
        seconds, ok = waited(device) - started, sum(model.status == "ok" for model in trained)
        yield f"k {k}: {clusters} AANets in {seconds:.1f} s, {ok} ok"


def bandwidth(device: str, slots: list[int], d_model: int) -> Iterator[str]:
    """A step's time for stacks of several sizes, beside that of copying what it has to touch."""
    rows, _ = benchmark_clusters(4, d_model, 6_000, (RANK, RANK))
    layout = Layout(24, 4, SETTINGS.batch_size)
    shapes = parameter_shapes(layout.rank, layout.k, SETTINGS.widths)
    size = sum(int(np.prod(shape)) for shape in shapes.values())
    for count in slots:
        tasks = [Task(rows[i % 4], 4, i) for i in range(count)]
        begun = [start_of(tasks[i], SETTINGS) for i in range(4)]
        stack = Stack(tasks, [begun[i % 4] for i in range(count)], count, layout, SETTINGS, device)
        with torch.no_grad():
            steps = stack.stopping.interval
            step = seconds_of(lambda stack=stack, steps=steps: stack.run(steps), device) / steps
        # Each layer's output and its slope are written and read, each parameter's value, gradient,
        # moments and start are; a copy reads and writes every number once.
        places = layout.places * (2 * sum(SETTINGS.widths) + layout.rank + layout.k)
        numbers = torch.empty(count * (2 * places + 5 * size), device=device)
        copied = torch.empty_like(numbers)
        bound = seconds_of(lambda out=copied, own=numbers: out.copy_(own), device)
        yield (
            f"{count} models in a stack: {1e3 * step:.2f} ms a step, "
            f"{1e6 * step / count:.1f} us a model, {bound / step:.0%} of the bandwidth bound"
        )


def sizes(device: str, d_model: int) -> Iterator[str]:
    """The same models alone and among many."""
    rows, _ = benchmark_clusters(8, d_model, 6_000, (RANK, RANK))
    tasks = [Task(own, 4, i) for i, own in enumerate(rows)]
    together = train_aanets(tasks * 8, SETTINGS, device)[: len(tasks)]
    alone = [train_aanets([task], SETTINGS, device)[0] for task in tasks]
    for loss in ("recon_loss", "archetypal_loss"):
        moved = [
            abs(np.log2(a.heldout[loss] / b.heldout[loss]))
            for a, b in zip(together, alone, strict=True)
            if a.heldout and b.heldout
        ]
        yield f"held-out {loss}, alone and among 64: log2 ratio at most {max(moved):.4f}"


def reading(device: str, small: bool) -> Iterator[str]:
    """Tokens per second through the lower layers of a model of Gemma-2-9B's shape."""
    from transformers import Gemma2Config, Gemma2Model

    shape: dict[str, Any] = {"num_hidden_layers": 21}
    if small:
        shape |= {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128,
                  "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
                  "vocab_size": 512}  # fmt: skip
    else:
        # What the 9B model has, where the class's own defaults are another size's.
        shape |= {"hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16,
                  "num_key_value_heads": 8, "head_dim": 256}  # fmt: skip
    config = Gemma2Config(**shape)
    dtype = torch.float32 if small else torch.bfloat16
    with torch.device(device):
        model = torch.nn.Module.to(Gemma2Model(config), dtype).eval()
    for chunks in (8, 32):
        tokens = torch.randint(config.vocab_size, (chunks, 256), device=device)
        with torch.no_grad():
            seconds = seconds_of(lambda tokens=tokens: model(tokens, use_cache=False), device)
        yield f"reading {chunks} chunks of 256 tokens at once: {tokens.numel() / seconds:,.0f}/s"


def main() -> None:
    """Print the lines, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a CPU's size of everything")
    small = parser.parse_args().small
    if not small and not torch.cuda.is_available():
        parser.error("there is no GPU here; --small runs on a CPU")
    device = "cpu" if small else "cuda"
    name = "CPU" if small else torch.cuda.get_device_name()
    d_model = 256 if small else 3584
    with Path("gpu.md").open("a", encoding="utf-8") as file:
        for part in (
            [f"## {name}, torch {torch.__version__}"],
            grid(device, 8 if small else 768, d_model, range(2, 4 if small else 9)),
            bandwidth(device, [4, 8] if small else [64, 256, 768], d_model),
            sizes(device, d_model),
            reading(device, small),
        ):
            for line in part:
                print(line, flush=True)
                file.write(f"{line}\n\n")


if __name__ == "__main__":
    main()
