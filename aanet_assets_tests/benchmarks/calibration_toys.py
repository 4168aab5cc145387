"""Toys for the calibration: each an SAE of its own, its clusters, and all that can be said of them.

What is true of a cluster is in the columns `what` (simplex, decoy or null) and `true_k`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sae_lens import SAE
from scipy.sparse import csr_matrix
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from aanet_assets.defs.toy import study
from aanet_assets.science.aanet.data import ClusterRows
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.science.activations.rows import (
    Cluster,
    activity_limit,
    gather_rows,
    summed_activation,
)
from aanet_assets.science.clustering.cooccurrence import cooccurrence
from aanet_assets.science.clustering.decoder import usable_latents
from aanet_assets.science.clustering.methods import cluster_latents
from aanet_assets.science.clustering.ranks import orthonormal, span_basis
from aanet_assets.science.selection.elbows import elbow
from aanet_assets.science.selection.evidence import gather_evidence
from aanet_assets.science.selection.nulls import matched_shuffle, shuffles_for
from aanet_assets.science.selection.replicates import replicate_rows, tasks_of
from aanet_assets.science.selection.shapes import active_together, coactivity, interior, shapes_of
from aanet_assets.science.toy.recovery import recover
from aanet_assets.science.toy.sae import train_topk_sae
from aanet_assets.science.toy.train import LAYER, RECIPES, Recipe, sae_metadata
from aanet_assets.science.toy.transformer import LENGTH, residuals
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import AANetSettings

KS, REPLICATES, DOCUMENTS = study.ks, 3, 32_000
KEYS = ["cluster_id", "null_cluster"]


class Toy(NamedTuple):
    """A toy with an SAE of its own, and the clustering of its latents."""

    name: str
    recipe: Recipe
    model: GPT2LMHeadModel
    sae: SAE
    letters: np.ndarray
    codes: csr_matrix
    decoder: np.ndarray
    activity: np.ndarray
    labels: np.ndarray


def make_toy(process_name: str, sae_seed: int, transformer: Path | None) -> Toy:
    """A transformer, the shipped one if none is given, with an SAE of this seed."""
    recipe = RECIPES[process_name]
    process, n = recipe.process, len(recipe.process.names)
    model = AutoModelForCausalLM.from_pretrained(transformer or f"{recipe.folder}/model").eval()
    assert isinstance(model, GPT2LMHeadModel)
    name = f"{process_name} {sae_seed}"
    train = process.sample(32_768, LENGTH, seed_for(sae_seed, name))
    sae = train_topk_sae(
        residuals(model, process, train, LAYER),
        1_500,
        sae_seed,
        sae_metadata(recipe),
        latents=recipe.latents,
        active=recipe.active,
    )
    letters = process.sample(DOCUMENTS, LENGTH, seed_for(sae_seed, name, "study"))
    codes = csr_matrix(sae.encode(residuals(model, process, letters, LAYER)).detach().numpy())
    decoder, settings = sae.W_dec.detach().numpy(), study.clustering
    activity = codes.getnnz(axis=0) / len(codes.indptr[1:])
    usable = usable_latents(decoder, activity, 0, settings.duplicate_cosine)
    affinity = cooccurrence(
        [codes[:, usable]], study.cache.activity_threshold, settings.cooccurrence
    )
    labels = cluster_latents(decoder, usable, n, settings, affinity)
    return Toy(name, recipe, model, sae, letters, codes, decoder, activity, labels)


def together(toy: Toy, latents: np.ndarray) -> float | None:
    """Coactivity of a group of latents where it is active."""
    own = toy.codes[:, latents]
    summed = summed_activation(own)
    active = summed > activity_limit(summed, study.rows)
    return coactivity(active_together(own[active], np.linalg.norm(toy.decoder[latents], axis=1)))


def chance(process_name: str, sae_seed: int, transformer: Path | None) -> pd.DataFrame:
    """Sizes and coactivities of chance groups; no AANet is needed for these."""
    toy = make_toy(process_name, sae_seed, transformer)
    n = len(toy.recipe.process.names)
    groups = []
    for shuffle in range(shuffles_for(study.controls.chance, n)):
        labels = matched_shuffle(toy.labels, toy.activity, seed_for(sae_seed, "shuffle", shuffle))
        groups += [np.flatnonzero(labels == i) for i in range(n)]
    rows = [(len(latents), together(toy, latents)) for latents in groups]
    return pd.DataFrame(rows, columns=["n_latents", "coactivity"])


def clusters_of_toy(process_name: str, sae_seed: int, transformer: Path | None) -> pd.DataFrame:
    """Evidence with further statistics, and the truth, of the clusters of one toy."""
    toy = make_toy(process_name, sae_seed, transformer)
    process, n, name = toy.recipe.process, len(toy.recipe.process.names), toy.name
    null = matched_shuffle(toy.labels, toy.activity, sae_seed)
    shapes, losses = [], []
    for null_cluster, labels in ((False, toy.labels), (True, null)):
        gathered = []
        for cluster_id in range(n):
            latents = np.flatnonzero(labels == cluster_id)
            columns = span_basis(toy.decoder[latents])
            coordinates = toy.decoder[latents] @ orthonormal(columns)
            cluster = Cluster(cluster_id, latents, columns, coordinates)
            seed = seed_for(sae_seed, name, null_cluster, cluster_id)
            found = gather_rows([toy.codes[:, latents]], cluster, study.rows, study.extrema, seed)
            gathered.append(found.rows)
            known = {
                "cluster_id": cluster_id,
                "null_cluster": null_cluster,
                "n_latents": len(latents),
                "coactivity": together(toy, latents),
                "interior": interior(found.rows.train),
            }
            for shape in shapes_of(found.rows.train, KS, seed, study.controls):
                shapes.append({**known, **shape._asdict(), "fit": shape.fit})
        losses += _replicates(gathered, null_cluster, name, sae_seed)
    none = pd.DataFrame({"n_latents": [], "coactivity": []}, dtype=float)
    table = gather_evidence(pd.DataFrame(shapes), pd.DataFrame(losses), none)
    table = table.merge(_further(pd.DataFrame(losses), pd.DataFrame(shapes)), on=KEYS)
    held = process.sample(8_000, LENGTH, seed_for(sae_seed, name, "heldout"))
    activations = residuals(toy.model, process, held, LAYER)
    held_codes = csr_matrix(toy.sae.encode(activations).detach().numpy())
    no_elbows = table[~table["null_cluster"]].assign(
        aanet_recon_loss_elbow_k=None, aanet_archetypal_loss_elbow_k=None
    )
    truth = recover(
        process.targets(toy.letters),
        lambda latents: toy.codes[:, latents],
        process.targets(held),
        lambda latents: held_codes[:, latents],
        toy.labels,
        no_elbows,
        lambda *_: None,
    )
    known = truth[["cluster_id", "true_k", "r2"]].assign(null_cluster=False)
    table = table.merge(known, on=KEYS, how="left")
    simplex = table["true_k"].notna()
    table["what"] = np.where(table["null_cluster"], "null", np.where(simplex, "simplex", "decoy"))
    return table


def _replicates(
    gathered: list[ClusterRows], null_cluster: bool, name: str, seed: int
) -> list[dict]:
    settings, found = AANetSettings(), []
    for k in KS:
        tasks = tasks_of(gathered, k, range(REPLICATES), seed, name, null_cluster)
        models = iter(train_aanets(tasks, settings))
        for rows in gathered:
            own = [next(models) for _ in range(REPLICATES)]
            found += replicate_rows(rows, null_cluster, own, settings, study.controls.near_share)
    return found


def _further(losses: pd.DataFrame, shapes: pd.DataFrame) -> pd.DataFrame:
    """The statistics that the evidence has not."""
    compared = [
        "heldout_explained_variance", "heldout_in_simplex", "heldout_occupancy", "vertex_shift",
    ]  # fmt: skip
    found = []
    for key, own in losses.groupby(KEYS):
        first = own[own["replicate"] == 0].set_index("k")
        at = elbow(list(KS), first["aanet_recon_loss"].to_numpy(dtype=float))
        sound = at.is_monotonic and (at.strength or 0) <= 0.7072
        means = own.groupby("k")[compared].mean()
        cluster = shapes[(shapes["cluster_id"] == key[0]) & (shapes["null_cluster"] == key[1])]
        pca = cluster.set_index("k")["pca_explained"]
        explained, occupancy = means["heldout_explained_variance"], means["heldout_occupancy"]
        fit = explained.clip(lower=0) * occupancy
        k = at.k if at.k is not None else KS[0]
        found.append(
            {
                "cluster_id": key[0], "null_cluster": key[1], "k_first": at.k,
                "strength": at.strength, "guarded": at.strength if sound else 0.0,
                "over_pca": explained[k] / pca.get(k, 1.0),
                "in_simplex": means["heldout_in_simplex"][k],
                "aanet_occupancy": occupancy[k], "stability": -means["vertex_shift"][k],
                "aanet_fit": fit.max(), "k_aanet": int(fit.index[int(fit.argmax())]),
            }
        )  # fmt: skip
    return pd.DataFrame(found)
