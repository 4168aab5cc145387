"""What the activation cache costs: `python -m aanet_assets_tests.benchmarks.cache STUDY`.

For a study with a model, an SAE and at least one shard of its cache in the project's folder. Prints
how fast documents become codes beside the bare language model, in alternation; the peak memory of
shards of two lengths; and three layouts of the same codes on disk.
"""

import argparse
import importlib
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

from aanet_assets.science.activations.build import build_shard
from aanet_assets.science.activations.corpus import chunks, documents
from aanet_assets.science.activations.encode import Encoder
from aanet_assets.science.activations.shards import ARRAYS
from aanet_assets.steps.activations import SHARD
from aanet_assets.study.study import Study

console = Console(width=110)
REPEATS, BATCHES = 5, 2
LENGTHS = (65_536, 163_840)
ROWS = 2_000


def throughput(study: Study) -> None:
    """Tokens per second of the truncated model alone, and of all that makes a block of codes."""
    encoder, cache = Encoder(study), study.cache
    found = chunks(
        documents(study.corpus, 0, cache.documents_per_shard), encoder.tokenizer, cache,
        encoder.prepends_bos,
    )  # fmt: skip
    batches = [list(islice(found, cache.batch_chunks)) for _ in range(BATCHES)]
    tokens = [torch.tensor([chunk.tokens for chunk in batch]) for batch in batches]
    encoder.block(batches[0], 0)
    bare, whole = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for ids in tokens:
            encoder.read(ids)
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        for batch in batches:
            encoder.block(batch, 0)
        whole.append(time.perf_counter() - started)
    count = sum(ids.numel() for ids in tokens)
    table = Table("", "tokens per second", title=f"{study.name}: medians of {REPEATS}")
    table.add_row("the model up to the SAE's layer", f"{count / median(bare):,.0f}")
    table.add_row("model, SAE and codes as stored", f"{count / median(whole):,.0f}")
    table.add_row("ratio of medians", f"{median(bare) / median(whole):.3f}")
    console.print(table)


def memory(name: str) -> None:
    """Peak memory of processes that make a shard of few and of many tokens."""
    table = Table("tokens of the shard", "peak memory, GiB", title=f"{name}: making one shard")
    for length in LENGTHS:
        command = [sys.executable, "-m", __spec__.name, name, "--peak-of", str(length)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        table.add_row(f"{length:,}", done.stdout.strip())
    console.print(table)


def peak_of(study: Study, length: int) -> None:
    """Make one shard of this many tokens and print the peak memory of the process, in GiB."""
    cache = study.cache.model_copy(update={"tokens_per_shard": length})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.safetensors"
        build_shard(study.model_copy(update={"cache": cache}), 0, path, "benchmark", 200.0)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}")


def layouts(study: Study) -> None:
    """The first shard's codes as safetensors, numpy memory maps and Arrow."""
    shard = SHARD.under(study.paths.root, shard=0)
    with safe_open(shard, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in ARRAYS}
        n_latents = int(file.metadata()["n_latents"])
    ends = np.concatenate([[0], np.cumsum(arrays["counts"], dtype=np.int64)])
    rows = np.random.default_rng(0).choice(len(ends) - 1, min(ROWS, len(ends) - 1), replace=False)
    table = Table(
        "layout", "bytes per token", f"{len(rows):,} random rows, ms", "into columns, ms",
        title=f"{study.name}: shard 0, {len(ends) - 1:,} tokens, medians of {REPEATS}",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        arrow = folder / "shard.arrow"
        _write_arrow(arrow, arrays, ends)
        numpy_size = sum(path.stat().st_size for path in folder.glob("*.npy"))

        def by_safetensors(names):
            with safe_open(shard, "numpy") as file:
                return [file.get_slice(name) for name in names], [file.get_tensor(n) for n in names]

        def by_numpy(names):
            maps = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
            return maps, maps

        def by_arrow(names):
            column = pa.ipc.open_file(pa.memory_map(str(arrow))).read_all()["codes"].chunk(0)
            parts = {"latents": column.field(0), "values": column.field(1)}
            found = [parts[n].flatten().to_numpy(zero_copy_only=True) for n in names]
            return found, found

        for layout, size, read in (
            ("safetensors", shard.stat().st_size, by_safetensors),
            ("numpy memory maps", numpy_size, by_numpy),
            ("Arrow", arrow.stat().st_size, by_arrow),
        ):
            random, columns = [], []
            for _ in range(REPEATS):
                started = time.perf_counter()
                (latents, values), _ = read(("latents", "values"))
                for row in rows:
                    part = slice(int(ends[row]), int(ends[row + 1]))
                    np.asarray(latents[part])
                    np.asarray(values[part])
                random.append(time.perf_counter() - started)
                started = time.perf_counter()
                _, (latents, values) = read(("latents", "values"))
                shape = (len(ends) - 1, n_latents)
                parts = (np.asarray(values, np.float32), np.asarray(latents, np.int32), ends)
                sp.csr_matrix(parts, shape=shape).tocsc()
                columns.append(time.perf_counter() - started)
            table.add_row(
                layout, f"{size / (len(ends) - 1):.1f}", f"{1e3 * median(random):.1f}",
                f"{1e3 * median(columns):.1f}",
            )  # fmt: skip
    console.print(table)


def _write_arrow(path: Path, arrays: dict[str, np.ndarray], ends: np.ndarray) -> None:
    seq = arrays["tokens"].shape[1]
    per_token = {
        "tokens": arrays["tokens"].ravel(),
        "special": arrays["special"].ravel(),
        "documents": np.repeat(arrays["documents"], seq),
        "starts": np.repeat(arrays["starts"], seq),
    }
    offsets = pa.array(ends.astype(np.int32))
    codes = pa.StructArray.from_arrays(
        [pa.ListArray.from_arrays(offsets, pa.array(arrays[n])) for n in ("latents", "values")],
        names=["latents", "values"],
    )
    table = pa.table({**per_token, "codes": codes})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", help="name of a module in aanet_assets/defs")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    study = importlib.import_module(f"aanet_assets.defs.{arguments.study}").study
    if arguments.peak_of:
        peak_of(study, arguments.peak_of)
        return
    layouts(study)
    throughput(study)
    memory(arguments.study)


if __name__ == "__main__":
    main()
