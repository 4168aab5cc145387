"""Every clustering at canonical size: 16,384 latents at d_model 3584 into 768 clusters.

Writes a synthetic cache as the pipeline does (4 shards of 262,144 tokens, 68 active latents each)
and synthetic decoder rows, then runs each method in a process of its own, and the rows and ranks of
one clustering after that; prints time and peak memory:
`python -m aanet_assets_tests.benchmarks.clusterings FOLDER`. FOLDER takes 4 GB.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from aanet_assets.science.activations.rows import Cluster, gather_rows, save_clusters, save_rows
from aanet_assets.science.activations.shards import Block, counted_codes, save_block
from aanet_assets.science.clustering.cooccurrence import cooccurrence
from aanet_assets.science.clustering.decoder import unit_rows, usable_latents
from aanet_assets.science.clustering.methods import cluster_latents
from aanet_assets.science.clustering.ranks import cluster_geometry, orthonormal, span_basis
from aanet_assets.study.settings import ClusteringSettings, ExtremaSettings, RowSettings

LATENTS, D_MODEL, CLUSTERS, SHARDS, TOKENS, L0, CHUNK = 16_384, 3_584, 768, 4, 2**18, 68, 256
METHODS = ("kmeans", "k_subspaces", "spectral_decoder", "spectral_cooccurrence")


def write_inputs(folder: Path) -> None:
    """Decoder rows of planted subspaces and noise, and codes of which groups fire together."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.arange(LATENTS) % CLUSTERS)
    decoder = 0.8 * rng.standard_normal((LATENTS, D_MODEL), dtype=np.float32)
    for planted in range(CLUSTERS):
        members = np.flatnonzero(group == planted)
        basis = rng.standard_normal((int(rng.integers(2, 9)), D_MODEL), dtype=np.float32)
        mixed = rng.standard_normal((len(members), len(basis)), dtype=np.float32) @ basis
        decoder[members] += mixed * np.sqrt(D_MODEL) / np.linalg.norm(mixed, axis=1, keepdims=True)
    np.save(folder / "decoder.npy", decoder)
    least = LATENTS // CLUSTERS
    of_group = np.stack([np.flatnonzero(group == planted)[:least] for planted in range(CLUSTERS)])
    for shard in range(SHARDS):
        # Of the groups that fire at a token, four latents each; some fire far more often.
        frequency = 1 / np.arange(1, CLUSTERS + 1)
        groups = rng.choice(CLUSTERS, (TOKENS, L0 // 4), p=frequency / frequency.sum())
        places = rng.integers(least, size=(TOKENS, L0 // 4, 4))
        latents = np.sort(of_group[groups[:, :, None], places].reshape(TOKENS, L0), axis=1)
        special = np.zeros((TOKENS // CHUNK, CHUNK), dtype=bool)
        block = Block(
            tokens=np.zeros(special.shape, dtype=np.int32),
            special=special,
            documents=np.zeros(len(special), dtype=np.int64),
            starts=np.zeros(len(special), dtype=np.int64),
            norms=np.ones(special.shape, dtype=np.float32),
            counts=np.full(TOKENS, L0, dtype=np.uint8),
            latents=latents.astype(np.uint16).ravel(),
            values=rng.exponential(5, TOKENS * L0).astype(np.float16),
        )
        save_block(folder / f"shard_{shard}.safetensors", block, LATENTS)


def run(folder: Path, job: str) -> None:
    """One clustering, or with `rows` the rows and ranks of the k-means clustering."""
    decoder = np.load(folder / "decoder.npy")
    settings = ClusteringSettings(method="kmeans" if job == "rows" else job)  # pyright: ignore
    started = time.monotonic()
    codes = counted_codes(folder / f"shard_{shard}.safetensors" for shard in range(SHARDS))
    read = time.monotonic() - started
    if job == "rows":
        said = write_rows(folder, decoder, codes.tocsc(), settings)
    else:
        activity = codes.getnnz(axis=0) / codes.shape[0]
        usable = usable_latents(decoder, activity, 0, settings.duplicate_cosine)
        affinity = None
        if job == "spectral_cooccurrence":
            affinity = cooccurrence([codes[:, usable]], 1e-6, settings.cooccurrence)
            print(f"  co-occurrence after {time.monotonic() - started:.0f} s", flush=True)
        labels = cluster_latents(decoder, usable, CLUSTERS, settings, affinity)
        np.save(folder / f"{job}.npy", labels)
        sizes = np.bincount(labels[labels >= 0])
        said = f"{len(sizes)} clusters of {sizes.min()} to {sizes.max()}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{read:.0f}|{time.monotonic() - started:.0f}|{time.process_time():.0f}|{peak:.1f}|{said}"
    )


def write_rows(folder: Path, decoder: np.ndarray, codes, settings: ClusteringSettings) -> str:
    """Bases, rows, ranks and extrema of all clusters; what they take on the disk."""
    labels, clusters, rows = np.load(folder / "kmeans.npy"), [], []
    for cluster_id in range(CLUSTERS):
        latents = np.flatnonzero(labels == cluster_id)
        columns = span_basis(decoder[latents])
        coordinates = decoder[latents] @ orthonormal(columns)
        clusters.append(Cluster(cluster_id, latents, columns, coordinates))
        cluster_geometry(unit_rows(coordinates), settings)
        found = gather_rows(
            [codes[:, latents].tocsr()], clusters[-1], RowSettings(), ExtremaSettings(), cluster_id
        )
        rows.append(found.rows)
    save_clusters(folder / "clustering.safetensors", labels, clusters)
    save_rows(folder / "rows.safetensors", rows)
    sizes = [(folder / f"{name}.safetensors").stat().st_size for name in ("clustering", "rows")]
    return " and ".join(f"{size / 1e6:,.0f} MB" for size in sizes)


def main() -> None:
    """Inputs where there are none; then every job in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", nargs="+", default=[*METHODS, "rows"])
    parser.add_argument("--only", help="run one job in this process")
    arguments = parser.parse_args()
    if arguments.only:
        return run(arguments.folder, arguments.only)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / "shard_3.safetensors").exists():
        write_inputs(arguments.folder)
    table = Table("job", "reading, s", "wall, s", "CPU, s", "peak GiB", "result")
    for job in arguments.jobs:
        command = [sys.executable, "-m", __spec__.name, str(arguments.folder), "--only", job]
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
        table.add_row(job, *done.stdout.splitlines()[-1].split("|"))
        print(done.stdout, flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
