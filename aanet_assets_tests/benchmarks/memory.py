"""Peak memory of each step, from the activation cache to metrics, as tokens grow.

Makes up codes of 16,384 latents, 68 of them active at each token, in planted groups whose
activities fall as Zipf's law has it, and writes them as shards of a million tokens with their
records. A few shards are different ones; the others are links to them, which take no disk. Then
each step runs through Dagster in a process of its own, for each number of shards:
`python -m aanet_assets_tests.benchmarks.memory FOLDER --shards 2 8 32`. FOLDER takes 3 GB.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import numpy as np
from rich.console import Console
from rich.table import Table

from aanet_assets.orchestration.driver import Driver
from aanet_assets.orchestration.pipeline import step_named
from aanet_assets.science.activations.shards import Block, join_blocks, save_block
from aanet_assets.steps.activations import (
    BY_LATENT,
    SHARD,
    activation_cache,
    codes_by_latent,
    sae_fit,
)
from aanet_assets.storage.fingerprints import content_digest, hash_of
from aanet_assets.storage.records import contents_read, write_record
from aanet_assets.storage.step import Partition
from aanet_assets.study.settings import (
    AANetSettings,
    CacheSettings,
    ClusteringSettings,
    ControlSettings,
    CorpusSettings,
    SaeSettings,
)
from aanet_assets.study.study import Study

PROJECT = Path(__file__).parents[2]
LATENTS, D_MODEL, GROUPS, ACTIVE_GROUPS, EACH, CHUNK = 16_384, 256, 64, 17, 4, 256
CHUNKS = 1_000_000 // CHUNK
CHUNKS_OF_BLOCK = 256
DIFFERENT = 4
"""Shards that are made; the others are links to these in turn."""
STEPS = (
    "codes_by_latent", "clustering", "cluster_rows", "aanet_models", "aanet_metrics",
    "consolidated_metrics", "null_clusters", "cluster_shapes",
)  # fmt: skip

_INPUTS = "inputs"


def study_of(folder: Path, shards: int, method: str) -> Study:
    """A small grid on so many shards."""
    return Study(
        name=f"memory_{shards}",
        model="data/inputs/toy/model",
        sae=SaeSettings(directory=str(folder / "sae")),
        corpus=CorpusSettings(files=str(folder / "corpus.txt")),
        cache=CacheSettings(training_shards=shards, heldout_shards=1),
        n_clusters=(GROUPS,),
        ks=(2, 3, 4),
        clustering=ClusteringSettings.model_validate({"method": method}),
        aanet=AANetSettings(max_steps=50, export_pt=False),
        controls=ControlSettings(nulls=1, chance=1, replicates=1),
    )


def write_inputs(folder: Path) -> None:
    """An SAE whose decoder rows lie in planted subspaces, the different shards, a corpus's name."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    from torch import from_numpy

    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "dagster.yaml", folder)
    (folder / "data").mkdir()
    (folder / "data" / "inputs").symlink_to(PROJECT / "data" / "inputs")
    (folder / "corpus.txt").write_text("Codes are made up.\n")
    rng = np.random.default_rng(0)
    metadata = SAEMetadata(model_name="none", hook_name="blocks.0.hook_resid_post")
    sae = StandardSAE(StandardSAEConfig(d_in=D_MODEL, d_sae=LATENTS, metadata=metadata))
    bases = rng.standard_normal((GROUPS, 5, D_MODEL))
    rows = rng.random((LATENTS, 1, 5)) @ bases[np.arange(LATENTS) % GROUPS]
    sae.W_dec.data = from_numpy(rows[:, 0].astype(np.float32))
    sae.save_model(folder / "sae")
    for shard in range(DIFFERENT):
        write_shard(folder / f"{shard}.safetensors", rng)


def write_shard(path: Path, rng: np.random.Generator) -> None:
    """One shard of made up codes, in blocks."""
    blocks = path.with_suffix(".blocks")
    blocks.mkdir()
    files = []
    for start in range(0, CHUNKS, CHUNKS_OF_BLOCK):
        files.append(blocks / f"{start:06d}.safetensors")
        save_block(files[-1], made_up(rng, min(CHUNKS_OF_BLOCK, CHUNKS - start)), LATENTS)
    join_blocks(files, path)
    shutil.rmtree(blocks)


def made_up(rng: np.random.Generator, chunks: int) -> Block:
    """Codes of some chunks: of 17 groups four latents each."""
    tokens = chunks * CHUNK
    # The largest of log p + Gumbel noise are a draw without replacement.
    urge = rng.gumbel(size=(tokens, GROUPS)) - np.log(np.arange(1, GROUPS + 1))
    groups = np.argpartition(-urge, ACTIVE_GROUPS, axis=1)[:, :ACTIVE_GROUPS, None]
    # A group's latents are every 64th; each of the four comes from a quarter of them.
    quarter = LATENTS // GROUPS // EACH
    places = np.floor(quarter * rng.random((tokens, ACTIVE_GROUPS, EACH)) ** 3).astype(np.int64)
    latents = groups + GROUPS * (places + quarter * np.arange(EACH))
    special = np.zeros((chunks, CHUNK), dtype=bool)
    special[:, 0] = True
    counts = np.where(special.ravel(), 0, ACTIVE_GROUPS * EACH).astype(np.uint8)
    kept = np.sort(latents.reshape(tokens, -1), axis=1)[~special.ravel()].ravel()
    return Block(
        tokens=rng.integers(0, 20, special.shape, dtype=np.int32),
        special=special,
        documents=np.arange(chunks),
        starts=np.zeros(chunks, dtype=np.int32),
        norms=rng.uniform(1, 2, special.shape).astype(np.float32),
        counts=counts,
        latents=kept.astype(np.uint16),
        values=rng.exponential(5, len(kept)).astype(np.float16),
    )


def place(study: Study, folder: Path) -> None:
    """Put the cache where the study expects it, with its records."""
    write_record(study, sae_fit.at(), "made up", [], {})
    for at in activation_cache.all_of(study):
        path = SHARD.under(study.paths.root, shard=at.at.shard)
        link(study, at, folder / f"{at.at.shard % DIFFERENT}.safetensors", path)


def link(study: Study, at: Partition, file: Path, name: Path) -> None:
    """Give a file another name, and record it as the file of a partition."""
    name.parent.mkdir(parents=True, exist_ok=True)
    name.unlink(missing_ok=True)
    os.link(file, name)
    content = content_digest([name], lambda _: hash_of(file))
    write_record(study, at, content, [name], contents_read(study, at))


def place_by_latent(study: Study, folder: Path) -> None:
    """Codes by latent of links are links: those of the first shard of their kind."""
    for at in codes_by_latent.all_of(study):
        path = BY_LATENT.under(study.paths.root, shard=at.at.shard)
        made = folder / f"{at.at.shard % DIFFERENT}.by_latent"
        if not made.exists():
            work(study, at.step.name, at.at.shard)
            os.link(path, made)
        elif not path.exists():
            link(study, at, made, path)


def work(study: Study, step: str, shard: int | None = None) -> None:
    """Make all partitions of a step, or one shard, as `aanet run` does."""
    own = step_named(study, step)
    with dg.DagsterInstance.get() as instance:
        driver = Driver(study, instance)
        for partition in own.all_of(study) if shard is None else [own.at(shard=shard)]:
            driver.materialise(partition)


def measured(arguments: argparse.Namespace, shards: int, step: str) -> tuple[float, float]:
    """Peak GB and seconds of a step in a process of its own, what it starts included."""
    command = [sys.executable, "-m", __spec__.name, str(arguments.folder), "--only", step]
    command += ["--shards", str(shards), "--method", arguments.method]
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{step} of {shards} shards failed")
    return usage.ru_maxrss * 1024 / 1e9, time.monotonic() - started


def main() -> None:
    """Inputs where there are none; then every step for every number of shards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--method", default="kmeans", help="of the clustering")
    parser.add_argument("--only", help="run one step of one number of shards in this process")
    arguments = parser.parse_args()
    folder = arguments.folder = arguments.folder.resolve()
    os.environ["AANET_HOME"] = os.environ["DAGSTER_HOME"] = str(folder)
    if arguments.only == _INPUTS:
        return write_inputs(folder)
    if arguments.only:
        study = study_of(folder, arguments.shards[0], arguments.method)
        if arguments.only == codes_by_latent.name:
            return place_by_latent(study, folder)
        return work(study, arguments.only)
    if not folder.exists():
        # A process begins with its parent's peak: this one is to stay small.
        measured(arguments, 0, _INPUTS)
    found: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    for shards in arguments.shards:
        study = study_of(folder, shards, arguments.method)
        place(study, folder)
        for step in STEPS:
            found[step].append(measured(arguments, shards, step))
            print(shards, step, "{:.2f} GB, {:.0f} s".format(*found[step][-1]), flush=True)
    tokens = [shards * CHUNKS * CHUNK for shards in arguments.shards]
    table = Table("step", *(f"{n:,} tokens, GB (s)" for n in tokens), "bytes per token")
    for step, own in found.items():
        slope = np.polyfit(tokens, [1e9 * peak for peak, _ in own], 1)[0] if len(own) > 1 else None
        shown = [f"{peak:.2f} ({seconds:,.0f})" for peak, seconds in own]
        table.add_row(step, *shown, "" if slope is None else f"{slope:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
