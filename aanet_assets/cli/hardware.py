"""How a study spreads over other hardware than this machine: `aanet plan --on 8xh100 --nodes 2`."""

import heapq
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import joblib
from rich.filesize import decimal

from aanet_assets.cli.planning import (
    AANET_CPU_SECONDS,
    UTILISATION,
    Plan,
    duration,
    matrix_speed,
)
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.study.study import Study

START_SECONDS = 5
"""Of one run until its work begins, imports included: measured with Slurm and Ray on two cores."""
MEASURED, DATA_SHEET, COUNTED = "measured", "data sheet", "counted"
CPU = "cpu"


class Gpu(NamedTuple):
    """One GPU, by its maker's data sheet."""

    flops: float
    """Dense bfloat16 operations per second, without sparsity."""
    memory: int
    """Bytes."""


GPUS = {
    "a100": Gpu(312e12, 80_000_000_000),
    "h100": Gpu(989e12, 80_000_000_000),
    "h200": Gpu(989e12, 141_000_000_000),
    "b200": Gpu(2250e12, 180_000_000_000),
    "l40s": Gpu(362e12, 48_000_000_000),
}


class Hardware(NamedTuple):
    """So many nodes with so many GPUs of a kind, or cores, each."""

    nodes: int
    each: int
    kind: str

    @property
    def slots(self) -> int:
        """Runs at once: each has a GPU, or a core, of its own."""
        return self.nodes * self.each

    @property
    def what(self) -> str:
        """A slot, in words."""
        return "core" if self.kind == CPU else self.kind.upper()


def parse_hardware(on: str, nodes: int) -> Hardware:
    """Read `8xh100` or `64xcpu`.

    Raises:
        ValueError: it is neither; says what it may be.
    """
    match = re.fullmatch(r"([1-9][0-9]*)x(\w+)", on.lower())
    if not match or match[2] not in (CPU, *GPUS):
        raise ValueError(
            f"--on {on} names no hardware: write how many and of what kind a node has, like "
            f"8xh100 or 64xcpu (cores); known are {', '.join((CPU, *GPUS))}"
        )
    return Hardware(nodes, int(match[1]), match[2])


def dealt(costs: Sequence[float], slots: int) -> list[float]:
    """Sum of costs of each slot when the largest that is left goes to whoever is free first."""
    loads = [0.0] * slots
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(loads, loads[0] + cost)
    return loads


def rows_on(study: Study, plan: Plan, hardware: Hardware) -> list[tuple[str, str, str, str]]:
    """What, how much, from what, and whether that was measured; for people."""
    gpu, slots = GPUS.get(hardware.kind), hardware.slots
    shards = len(study.shards)
    cells = [n for n in study.n_clusters for _ in study.ks]
    # The replicates of one n_clusters, with those of its null clusters, are one partition.
    again = [round(plan.replicates / sum(study.n_clusters) * n) for n in study.n_clusters]
    trained = [*cells, *again] if plan.replicates else cells
    loads = dealt(trained, slots)
    partitions = sum(1 for _ in partitions_of(study))
    if gpu is None:
        speed, known = matrix_speed(study, CPU) * UTILISATION[CPU] / joblib.cpu_count(), MEASURED
        at = f"{UTILISATION[CPU]:.0%} of a core of this machine, just now"
    else:
        speed, known = gpu.flops * UTILISATION["cuda"], DATA_SHEET
        at = f"{UTILISATION['cuda']:.0%} of an {hardware.what}"
    per_shard = plan.flops / shards / speed
    cache = (plan.cache_disk or 0) + (plan.by_latent_disk or 0)
    storage = cache + plan.rows_disk + plan.models_disk
    of_clusters = [
        (
            "split of the AANets",
            f"{sum(loads) / slots / max(loads):.0%}",
            f"of an even one: {len(cells)} cells of n_clusters x k"
            + (f" and {len(again)} of replicates" if plan.replicates else "")
            + f", the largest first; at most {max(loads):,.0f} of {sum(trained):,} AANets in one "
            "place",
            COUNTED,
        ),
        _training(loads, gpu, hardware),
        (
            "longest run",
            duration(max(trained) * AANET_CPU_SECONDS),
            f"{max(trained):,} AANets in one partition, on one core; timeouts must allow for more",
            MEASURED,
        ),
    ] if trained else []  # fmt: skip
    return [
        (
            "runs at once",
            f"{slots:,}",
            f"{hardware.nodes} x {hardware.each}, each with {'a GPU' if gpu else 'a core'} of its "
            "own" + (": the study must say device='cuda'" if gpu else ""),
            COUNTED,
        ),
        _memory(plan, gpu, hardware),
        (
            "activation cache",
            duration(math.ceil(shards / slots) * per_shard),
            f"{shards} shards of {duration(per_shard)}, at {speed / 1e12:,.3g} TFLOP/s, {at}",
            known,
        ),
        *of_clusters,
        (
            "starting of runs",
            duration(math.ceil(partitions / slots) * START_SECONDS),
            f"{partitions:,} partitions, about {START_SECONDS} s each",
            MEASURED,
        ),
        (
            "shared folder",
            decimal(storage),
            "cache, its codes by latent"
            + (", training rows (at most) and exported AANets" if trained else "")
            + ("" if plan.cache_disk else "; without the cache, whose L0 is not known yet"),
            COUNTED,
        ),
    ]


def _memory(plan: Plan, gpu: Gpu | None, hardware: Hardware) -> tuple[str, str, str, str]:
    if gpu is None:
        whole = max(plan.working_memory, plan.prediction_memory) * hardware.each
        return ("memory of a node", decimal(whole), "a model and an SAE in every run", COUNTED)
    most = max(plan.working_memory, plan.prediction_memory)
    fits = "" if most < gpu.memory else "does not fit: "
    return (
        "memory of a GPU",
        f"{fits}{decimal(most)} of {decimal(gpu.memory)}",
        "the cache's or the predictions', whichever is more, of what the card has",
        DATA_SHEET,
    )


def _training(loads: list[float], gpu: Gpu | None, hardware: Hardware) -> tuple[str, str, str, str]:
    if gpu is None:
        return (
            "time of the AANets",
            duration(max(loads) * AANET_CPU_SECONDS),
            f"at {AANET_CPU_SECONDS} CPU seconds each, for 50,000 rows a cluster at d_model 3584",
            MEASURED,
        )
    hours = sum(loads) * AANET_CPU_SECONDS / 3600
    return (
        "time of the AANets",
        "not known",
        f"none was trained on an {hardware.what} yet; on CPUs they take {hours:,.1f} core hours",
        MEASURED,
    )
