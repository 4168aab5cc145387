"""How well statistics tell simplices from decoys and null clusters, over several toys.

Trains further SAEs on the shipped transformers, clusters their latents, makes one shuffle of null
clusters, trains AANets with replicates, and prints tables and the ROC curves:
`python -m aanet_assets_tests.benchmarks.calibration FOLDER`. What is finished in FOLDER is not
done again.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sae_lens import SAE
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score, roc_curve
from transformers import AutoModelForCausalLM, PreTrainedModel

from aanet_assets.analysis.elbows import elbow
from aanet_assets.archetypes.train import train_aanets
from aanet_assets.cache.rows import (
    Cluster,
    activity_limit,
    gather_rows,
    member_codes,
    summed_activation,
)
from aanet_assets.clustering.cooccurrence import cooccurrence
from aanet_assets.clustering.decoder import usable_latents
from aanet_assets.clustering.methods import cluster_latents
from aanet_assets.clustering.ranks import orthonormal, span_basis
from aanet_assets.seeds import seed_for
from aanet_assets.settings import AANetSettings, TrustSettings
from aanet_assets.studies.toy import study
from aanet_assets.threads import torch_threads
from aanet_assets.toy.recovery import recover
from aanet_assets.toy.sae import train_topk_sae
from aanet_assets.toy.train import LAYER, RECIPES, Recipe, sae_metadata
from aanet_assets.toy.transformer import LENGTH, residuals
from aanet_assets.trust.evidence import empirical_p, gather_evidence, q_values
from aanet_assets.trust.nulls import matched_shuffle, shuffles_for
from aanet_assets.trust.replicates import (
    archetypes_of,
    heldout_occupancy,
    tasks_of,
    vertex_shift,
)
from aanet_assets.trust.shapes import coactivity, interior, shapes_of
from aanet_assets.trust.verdicts import select_calibrated

KS, REPLICATES, DOCUMENTS = study.ks, 3, 32_000
KEYS = ["cluster_id", "is_null"]
STATISTICS = {
    "elbow strength, first seed (the guide's)": "strength",
    "the same, 0 where the loss rises or the strength is above 0.707": "guarded",
    "elbow strength, mean of replicates": "elbow_strength",
    "share of replicates with the same elbow": "elbow_k_share",
    "held-out explained variance at the elbow, over that of PCA": "over_pca",
    "share of held-out rows inside the simplex, at the elbow": "in_simplex",
    "occupancy of the emptiest vertex, AANet at the elbow": "aanet_occupancy",
    "stability of the vertices over replicates, at the elbow": "stability",
    "fullness of the interior against a Gaussian": "interior",
    "latents active together": "coactivity",
    "AANet's explained variance times occupancy, best k": "aanet_fit",
    "PCA's explained variance times occupancy of the enclosing simplex, best k": "simplex_fit",
}
BOLD = {"strength": "#1f4e9c", "coactivity": "#1b7837", "simplex_fit": "#b2182b"}
"""What is drawn in a colour of its own."""
KS_PICKED = {
    "elbow, first seed (the guide's)": "k_first",
    "elbow of most replicates": "elbow_k",
    "AANet's explained variance times occupancy": "k_aanet",
    "PCA's explained variance times occupancy of the enclosing simplex": "simplex_k",
}


class Toy(NamedTuple):
    """A toy with an SAE of its own, and the clustering of its latents."""

    name: str
    recipe: Recipe
    model: PreTrainedModel
    sae: SAE
    letters: np.ndarray
    codes: csr_matrix
    decoder: np.ndarray
    activity: np.ndarray
    labels: np.ndarray


def make_toy(process_name: str, sae_seed: int) -> Toy:
    """The shipped transformer with an SAE of this seed."""
    recipe = RECIPES[process_name]
    process, n = recipe.process, len(recipe.process.components)
    model = AutoModelForCausalLM.from_pretrained(f"{recipe.folder}/model").eval()
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
    affinity = cooccurrence(codes, study.cache.activity_threshold, settings.cooccurrence)
    labels = cluster_latents(decoder, usable, n, settings, affinity)
    return Toy(name, recipe, model, sae, letters, codes, decoder, activity, labels)


def together(toy: Toy, latents: np.ndarray) -> float | None:
    """Coactivity of a group of latents where it is active."""
    own = member_codes(toy.codes, latents)
    summed = summed_activation(own)
    active = np.flatnonzero(summed > activity_limit(summed, study.rows))
    return coactivity(own[active], np.linalg.norm(toy.decoder[latents], axis=1))


def chance(process_name: str, sae_seed: int) -> pd.DataFrame:
    """Sizes and coactivities of chance groups; no AANet is needed for these."""
    toy, n = make_toy(process_name, sae_seed), len(RECIPES[process_name].process.components)
    groups = []
    for shuffle in range(shuffles_for(study.trust.chance, n)):
        labels = matched_shuffle(toy.labels, toy.activity, seed_for(sae_seed, "shuffle", shuffle))
        groups += [np.flatnonzero(labels == i) for i in range(n)]
    rows = [(len(latents), together(toy, latents)) for latents in groups]
    return pd.DataFrame(rows, columns=["n_latents", "coactivity"])


def clusters_of_toy(process_name: str, sae_seed: int) -> pd.DataFrame:
    """Evidence with further statistics, and the truth, of the clusters of one toy."""
    toy = make_toy(process_name, sae_seed)
    process, n, name = toy.recipe.process, len(toy.recipe.process.components), toy.name
    null = matched_shuffle(toy.labels, toy.activity, sae_seed)
    by_latent, shapes, losses = toy.codes.tocsc(), [], []
    for is_null, labels in ((False, toy.labels), (True, null)):
        gathered = []
        for cluster_id in range(n):
            latents = np.flatnonzero(labels == cluster_id)
            columns = span_basis(toy.decoder[latents])
            coordinates = toy.decoder[latents] @ orthonormal(columns)
            cluster = Cluster(cluster_id, latents, columns, coordinates)
            seed = seed_for(sae_seed, name, is_null, cluster_id)
            found = gather_rows(by_latent, cluster, study.rows, study.extrema, KS[-1], seed)
            gathered.append(found.rows)
            known = {
                "cluster_id": cluster_id,
                "is_null": is_null,
                "n_latents": len(latents),
                "coactivity": together(toy, latents),
                "interior": interior(found.rows.train),
            }
            for shape in shapes_of(found.rows.train, KS, seed):
                shapes.append({**known, **shape._asdict(), "fit": shape.fit})
        losses += _replicates(gathered, is_null, name, sae_seed)
    none = pd.DataFrame({"n_latents": [], "coactivity": []}, dtype=float)
    table = gather_evidence(pd.DataFrame(shapes), pd.DataFrame(losses), none)
    table = table.merge(_further(pd.DataFrame(losses), pd.DataFrame(shapes)), on=KEYS)
    held = process.sample(8_000, LENGTH, seed_for(sae_seed, name, "heldout"))
    activations = residuals(toy.model, process, held, LAYER)
    held_codes = csr_matrix(toy.sae.encode(activations).detach().numpy())
    no_elbows = table[~table["is_null"]].assign(
        aanet_recon_loss_elbow_k=None, aanet_archetypal_loss_elbow_k=None
    )
    truth = recover(
        process, toy.letters, toy.codes, held, held_codes, toy.labels, no_elbows, lambda *_: None
    )
    known = truth[["cluster_id", "true_k", "r2"]].assign(is_null=False)
    table = table.merge(known, on=KEYS, how="left")
    simplex = table["true_k"].notna()
    table["what"] = np.where(table["is_null"], "null", np.where(simplex, "simplex", "decoy"))
    return table


def _replicates(gathered, is_null: bool, name: str, seed: int) -> Iterator[dict]:
    settings = AANetSettings()
    for k in KS:
        models = iter(
            train_aanets(tasks_of(gathered, k, range(REPLICATES), seed, name, is_null), settings)
        )
        for rows in gathered:
            first = None
            for replicate in range(REPLICATES):
                model = next(models)
                own, heldout = archetypes_of(model, settings), model.heldout or {}
                first = own if first is None else first
                yield {
                    "cluster_id": rows.cluster_id,
                    "is_null": is_null,
                    "k": k,
                    "replicate": replicate,
                    "aanet_recon_loss": (model.losses or {}).get("recon_loss"),
                    "explained": heldout.get("explained_variance"),
                    "in_simplex": heldout.get("in_simplex"),
                    "occupancy": heldout_occupancy(model, rows.heldout, settings),
                    "shift": None
                    if own is None or first is None or not replicate
                    else vertex_shift(first, own, rows.train),
                }


def _further(losses: pd.DataFrame, shapes: pd.DataFrame) -> pd.DataFrame:
    """The statistics that the evidence has not."""
    found = []
    for key, own in losses.groupby(KEYS):
        first = own[own["replicate"] == 0].set_index("k")
        at = elbow(list(KS), first["aanet_recon_loss"].to_numpy(dtype=float))
        sound = at.is_monotonic and (at.strength or 0) <= 0.7072
        means = own.groupby("k")[["explained", "in_simplex", "occupancy", "shift"]].mean()
        cluster = shapes[(shapes["cluster_id"] == key[0]) & (shapes["is_null"] == key[1])]
        pca = cluster.set_index("k")["pca_explained"]
        fit = means["explained"].clip(lower=0) * means["occupancy"]
        k = at.k if at.k is not None else KS[0]
        found.append(
            {
                "cluster_id": key[0], "is_null": key[1], "k_first": at.k,
                "strength": at.strength, "guarded": at.strength if sound else 0.0,
                "over_pca": means["explained"][k] / pca.get(k, 1.0),
                "in_simplex": means["in_simplex"][k],
                "aanet_occupancy": means["occupancy"][k], "stability": -means["shift"][k],
                "aanet_fit": fit.max(), "k_aanet": int(fit.idxmax()),
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def judged(table: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """The clusters of one toy, null ones too, with the verdict of the calibrated mode on each."""

    def floats(frame: pd.DataFrame, name: str) -> np.ndarray:
        return frame[name].to_numpy(dtype=float)

    names = ("coactivity", "n_latents")
    against = [floats(references, name) for name in names]
    verdicts = []
    for _, own in table.groupby("is_null"):
        # Null clusters are judged as if they were real, to see how often one would be selected.
        p = empirical_p(*(floats(own, name) for name in names), *against)
        own = own.assign(is_null=False, coactivity_q=q_values(p))
        chosen = select_calibrated(own, study.selection, TrustSettings(), len(own)).selected
        verdicts.append(own["cluster_id"].isin(chosen["cluster_id"]))
    return table.assign(selected=pd.concat(verdicts))


def print_tables(clusters: pd.DataFrame, console: Console) -> None:
    """Areas under the curves, k found, and what the calibrated mode selects."""
    for process, own in clusters.groupby("process"):
        counts = ", ".join(f"{n} {what}" for what, n in own["what"].value_counts().items())
        table = Table("statistic", "against decoys", "against nulls", "against both",
                      title=f"{process}: area under the ROC curve ({counts})")  # fmt: skip
        for said, column in STATISTICS.items():
            table.add_row(said, *(f"{_auc(own, column, others):.3f}" for others in
                                  (["decoy"], ["null"], ["decoy", "null"])))  # fmt: skip
        console.print(table)
        simplices = own[own["what"] == "simplex"]
        for said, column in KS_PICKED.items():
            right = simplices[column] == simplices["true_k"]
            console.print(f"k right by {said}: {int(right.sum())} of {len(simplices)}")
        for what, group in own.groupby("what"):
            console.print(
                f"calibrated mode selects {int(group['selected'].sum())} of {len(group)} {what}"
            )


def _auc(clusters: pd.DataFrame, column: str, others: list[str]) -> float:
    y, score = _labelled(clusters, column, others)
    return float(roc_auc_score(y, score))


def _labelled(clusters: pd.DataFrame, column: str, others: list[str]):
    own = clusters[clusters["what"].isin(["simplex", *others])]
    score = own[column].astype(float)
    return own["what"] == "simplex", score.fillna(score.min() - 1)


def draw(clusters: pd.DataFrame, path: Path) -> None:
    """ROC curves against decoys and against nulls."""
    figure = Figure(figsize=(13, 4.5), layout="constrained")
    for axes, others in zip(figure.subplots(1, 2), (["decoy"], ["null"]), strict=True):
        axes.set_prop_cycle(color=colormaps["tab20"].colors)  # pyright: ignore
        for said, column in STATISTICS.items():
            false, true, _ = roc_curve(*_labelled(clusters, column, others))
            style = (
                {"color": BOLD[column], "linewidth": 3} if column in BOLD else {"linewidth": 0.9}
            )
            axes.plot(false, true, label=said, **style)
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
        axes.set(title=f"simplices against {others[0]}s", xlabel="false positives",
                 ylabel="true positives")  # fmt: skip
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center",
                  fontsize=7)  # fmt: skip
    figure.savefig(path, dpi=110)


def draw_p_values(references: list[pd.DataFrame], path: Path) -> None:
    """The p-values of null clusters among the others: they should be uniform."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    p = []
    for nulls in references:
        values, sizes = (nulls[name].to_numpy(float) for name in ("coactivity", "n_latents"))
        for i in range(len(nulls)):
            others = np.arange(len(nulls)) != i
            p += [*empirical_p(values[[i]], sizes[[i]], values[others], sizes[others])]
    axes.plot(np.sort(p), np.arange(1, len(p) + 1) / len(p), color="#1b7837", linewidth=2)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axes.set(xlabel="p-value of the coactivity", ylabel="share of null clusters at most there",
             title=f"{len(p)} null clusters, each among the others")  # fmt: skip
    figure.savefig(path, dpi=110)


def main() -> None:
    """Every toy that is not yet in the folder; then tables and picture of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--processes", nargs="+", default=["union7", "union22"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found, all_references = [], []
    for process in arguments.processes:
        for seed in arguments.seeds:
            with torch_threads(1):
                clusters, references = (
                    _kept(
                        arguments.folder / f"{process}_{seed}{ending}.parquet", make, process, seed
                    )
                    for ending, make in (("", clusters_of_toy), ("_chance", chance))
                )
            all_references.append(references)
            table = judged(clusters, references)
            found.append(table.assign(process=process, sae_seed=seed))
    clusters = pd.concat(found)
    print_tables(clusters, Console())
    draw(clusters, arguments.folder / "roc.png")
    draw_p_values(all_references, arguments.folder / "p_values.png")


def _kept(path: Path, make: Callable[..., pd.DataFrame], *arguments) -> pd.DataFrame:
    if not path.exists():
        make(*arguments).to_parquet(path)
    return pd.read_parquet(path)


if __name__ == "__main__":
    main()
