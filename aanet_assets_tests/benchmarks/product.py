"""Every clustering on the shipped product of five components, against the exact beliefs.

    python -m aanet_assets_tests.benchmarks.product                  # the shipped SAE
    python -m aanet_assets_tests.benchmarks.product --seeds 0 --seeds 1 --n-clusters 5

Per method and n_clusters: held-out R^2 of each component's belief from the cluster that is matched
with it, their mean, the least R^2 of a component from its best cluster, and the largest R^2 from a
cluster that is matched with another or none. With seeds, SAEs are trained as the shipped one is,
and the last table is the mean over them.
"""

import itertools
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from rich.console import Console
from rich.table import Table
from sae_lens import SAE
from scipy.sparse import csr_matrix
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from aanet_assets.defs.toy_product import study
from aanet_assets.science.activations.effects import prediction_slopes
from aanet_assets.science.activations.sae import hook_of
from aanet_assets.science.activations.sae_training import sae_quality
from aanet_assets.science.activations.targets import Targets
from aanet_assets.science.clustering.methods import label_latents
from aanet_assets.science.toy.recovery import recover, summary
from aanet_assets.science.toy.sae import train_topk_sae
from aanet_assets.science.toy.scores import heldout_r2
from aanet_assets.science.toy.train import LAYER, RECIPES, sae_metadata
from aanet_assets.science.toy.transformer import LENGTH, residuals, with_bos
from aanet_assets.study.settings import ClusteringSettings

RECIPE = RECIPES["product5"]
METHODS: dict[str, dict[str, Any]] = {
    "kmeans": {"method": "kmeans"},
    "k_subspaces": {"method": "k_subspaces"},
    "spectral_decoder": {"method": "spectral_decoder"},
    "spectral_cooccurrence, phi": {"method": "spectral_cooccurrence", "cooccurrence": "phi"},
    "spectral_cooccurrence, mutual information": {
        "method": "spectral_cooccurrence",
        "cooccurrence": "mutual_information",
    },
    "leiden, together": {"method": "leiden", "backbone": "together"},
    "leiden, apart": {"method": "leiden", "backbone": "apart"},
    "spectral_effect": {"method": "spectral_effect"},
}
NO_ELBOWS = pd.DataFrame(
    columns=["cluster_id", "aanet_recon_loss_elbow_k", "aanet_archetypal_loss_elbow_k"]
)


def codes_of(sae: SAE, streams: torch.Tensor) -> csr_matrix:
    """Codes at all tokens."""
    with torch.no_grad():
        return csr_matrix(sae.encode(streams).numpy())


def main(
    seeds: Annotated[list[int], typer.Option()] = [],  # noqa: B006
    latents: int = RECIPE.latents,
    active: int = RECIPE.active,
    n_clusters: Annotated[list[int], typer.Option()] = [5, 6, 7, 8],  # noqa: B006
    documents: int = 8_000,
) -> None:
    """Print a table per SAE."""
    torch.set_num_threads(1)
    process = RECIPE.process
    model = AutoModelForCausalLM.from_pretrained(f"{RECIPE.folder}/model").eval()
    assert isinstance(model, GPT2LMHeadModel)
    letters = [process.sample(n, LENGTH, seed) for seed, n in enumerate((documents, 4_000), 900)]
    streams = [residuals(model, process, part, LAYER) for part in letters]
    tokens = with_bos(letters[0], process).numpy()[:125]
    special = np.zeros(tokens.shape, dtype=bool)
    special[:, 0] = True
    shipped = SAE.load_from_disk(f"{RECIPE.folder}/sae")
    groups = np.arange(model.config.vocab_size)
    slopes, prediction = prediction_slopes(study, hook_of(shipped), groups, tokens, special)
    seen = [process.targets(part) for part in letters]
    tables: list[pd.DataFrame] = []
    for seed in seeds or [None]:
        sae = shipped if seed is None else trained(model, seed, latents, active)
        codes = [codes_of(sae, part) for part in streams]
        decoder = sae.W_dec.detach().numpy()
        quality = sae_quality(sae, streams[1])
        title = f"SAE {'as shipped' if seed is None else f'of seed {seed}'}: {quality}"
        rows: list[tuple[Any, ...]] = [("all latents", None, *bound(seen, codes), None, None, None)]
        for (name, chosen), n in itertools.product(METHODS.items(), n_clusters):
            try:
                labels = label_latents(
                    decoder,
                    codes[0].getnnz(axis=0) / len(codes[0].indptr[1:]),
                    lambda some, own=codes[0]: [own[:, some]],
                    n,
                    ClusteringSettings.model_validate(chosen),
                    study.cache.activity_threshold,
                    decoder @ slopes.T,
                    prediction,
                )
            except ValueError:
                # Leiden does not find every number of communities.
                rows.append((name, n, *[None] * (len(process.names) + 3)))
            else:
                rows.append((name, n, *scores(seen, codes, labels)))
        columns = ["method", "n", *process.names, "mean", "least best", "leak"]
        tables.append(pd.DataFrame(rows, columns=columns))
        show(tables[-1], title)
    if len(tables) > 1:
        by = ["method", "n"]
        every = pd.concat(tables).groupby(by, sort=False, dropna=False)
        show(every.mean().reset_index(), f"mean over {len(tables)} SAEs")
        show(every.min().reset_index(), f"least over {len(tables)} SAEs")


def show(table: pd.DataFrame, title: str) -> None:
    """Print a table."""
    shown = Table(*table.columns, title=title)
    for row in table.itertuples(index=False):
        name, n, *numbers = row
        cells = ["" if pd.isna(number) else f"{number:.3f}" for number in numbers]
        shown.add_row(name, "" if pd.isna(n) else f"{n:.0f}", *cells)
    Console(width=160).print(shown)


def trained(model: GPT2LMHeadModel, seed: int, latents: int, active: int) -> SAE:
    """An SAE of its own, trained as the shipped one is, on fresh documents."""
    letters = RECIPE.process.sample(32_768, LENGTH, 500 + seed)
    streams = residuals(model, RECIPE.process, letters, LAYER)
    metadata = sae_metadata(RECIPE)
    return train_topk_sae(streams, 1_500, seed, metadata, latents=latents, active=active)


def bound(seen: list[Targets], codes: list[csr_matrix]) -> list[float]:
    """R^2 of each component's belief from all latents at once."""
    train, test = (own.toarray() for own in codes)
    return [
        heldout_r2(train, one.values, test, other.values)
        for one, other in zip(seen[0].factors, seen[1].factors, strict=True)
    ]


def scores(seen: list[Targets], codes: list[csr_matrix], labels: np.ndarray) -> list[float]:
    """Each component's R^2, their mean, the least of those of best clusters, the largest leak."""
    train, test = (lambda some, own=own: own[:, some] for own in codes)
    found = recover(seen[0], train, seen[1], test, labels, NO_ELBOWS, lambda *_: None)
    said, best = summary(found), found[["r2", "leak"]].max(axis=1).min()
    return [*found["r2"], said["mean_r2"], best, said["max_leak"]]


if __name__ == "__main__":
    typer.run(main)
