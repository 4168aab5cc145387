"""The grid's row at canonical size: 768 clusters at d_model 3584 (half an hour on two cores).

Writes synthetic rows as the pipeline does, then trains every k from the mapped files in a process
of its own and prints core-hours, memory and the sizes of what is kept:
`python -m aanet_assets_tests.benchmarks.canonical FOLDER`. FOLDER takes 4 GB.
"""

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from aanet_assets.science.aanet.data import ClusterRows, Task
from aanet_assets.science.aanet.export import save_stack
from aanet_assets.science.aanet.extrema import laplacian_extrema
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.science.activations.rows import Cluster, load_rows, save_clusters, save_rows
from aanet_assets.study.settings import AANetSettings, ExtremaSettings

CLUSTERS, D_MODEL, ROWS, KS = 768, 3584, 50_000, [2, 3, 4, 5, 6, 7, 8]


def write_inputs(folder: Path) -> None:
    """A clustering with bases, and rows: mixtures of 3 to 6 vertices, ranks 8 to 34."""
    rng = np.random.default_rng(0)
    clusters, rows = [], []
    for i in range(CLUSTERS):
        rank = int(rng.integers(8, 35))
        basis = np.linalg.qr(rng.standard_normal((D_MODEL, rank)))[0].astype(np.float32)
        mixed = rng.dirichlet(np.full(3 + i % 4, 0.5), ROWS) @ (
            4 * rng.standard_normal((3 + i % 4, rank))
        )
        z = (mixed + 0.2 * rng.standard_normal(mixed.shape)).astype(np.float32)
        train, heldout = z[: ROWS * 9 // 10], z[ROWS * 9 // 10 :]
        found = laplacian_extrema(train[:1000], 8, ExtremaSettings(), seed=i)
        clusters.append(Cluster(i, np.arange(rank), basis, np.eye(rank, dtype=np.float32)))
        rows.append(ClusterRows(i, basis, train, heldout, train[found]))
    save_clusters(folder / "clustering.safetensors", np.zeros(1, dtype=np.int64), clusters)
    save_rows(folder / "rows.safetensors", rows)


def train(folder: Path, ks: list[int]) -> None:
    """Train these ks and print what it took."""
    process, peak, done = psutil.Process(), [0, 0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            memory = process.memory_info()
            peak[:] = max(peak[0], memory.rss - memory.shared), max(peak[1], memory.rss)

    threading.Thread(target=watch, daemon=True).start()
    table = Table("k", "CPU s", "wall s", "mean steps", "ok", "stack file, MB")
    cpu, size, bases = 0.0, 0, 0
    for k in ks:
        started, wall = time.process_time(), time.monotonic()
        rows = load_rows(
            folder / "rows.safetensors", folder / "clustering.safetensors", range(CLUSTERS)
        )
        models = train_aanets([Task(r, k, r.cluster_id) for r in rows], AANetSettings())
        save_stack(folder / f"aanets_k{k}.safetensors", models)
        own = (folder / f"aanets_k{k}.safetensors").stat().st_size
        cpu, size = cpu + time.process_time() - started, size + own
        bases = sum(r.basis.nbytes for r in rows)
        table.add_row(
            f"{k}", f"{time.process_time() - started:.0f}", f"{time.monotonic() - wall:.0f}",
            f"{np.mean([m.steps for m in models]):.0f}", f"{sum(m.status == 'ok' for m in models)}",
            f"{own / 1e6:.0f}",
        )  # fmt: skip
    done.set()
    Console(width=100).print(table)
    print(
        f"{len(ks) * CLUSTERS} models: {cpu / 3600:.2f} core-hours. Stack files "
        f"{size / 1e6:.0f} MB, bases {bases / 1e6:.0f} MB. Peak memory {peak[0] / 2**30:.2f} GiB, "
        f"with mapped files, which the system takes back when it needs them, "
        f"{peak[1] / 2**30:.2f} GiB."
    )


def main() -> None:
    """Write the inputs if they are not there; train in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ks", type=int, nargs="+", default=KS)
    parser.add_argument("--inputs-are-there", action="store_true")
    arguments = parser.parse_args()
    if arguments.inputs_are_there:
        train(arguments.folder, arguments.ks)
    else:
        write_inputs(arguments.folder)
        again = [sys.executable, "-m", __spec__.name, *sys.argv[1:], "--inputs-are-there"]
        subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
