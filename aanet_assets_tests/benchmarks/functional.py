"""What functional evidence says of toys that it has not seen, each with an SAE of its own.

    python -m aanet_assets_tests.benchmarks.functional --processes union7 --seeds 11 12 13

Prints, for each toy, how many simplices, decoys and null clusters pass all limits of
`BeliefSettings`, and the worst statistic of each; at the end, over all of them, steering towards
the true states. `--transformer` names one made by `aanet train-toy`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from scipy.sparse import csr_matrix

from aanet_assets.defs.toy import study
from aanet_assets.science.activations.rows import Cluster, gather_rows
from aanet_assets.science.belief import tables
from aanet_assets.science.belief.edits import Edited
from aanet_assets.science.belief.heldout import Heldout, Placed, Simplex
from aanet_assets.science.belief.simplices import enclosing_vertices
from aanet_assets.science.clustering.ranks import orthonormal, span_basis
from aanet_assets.science.selection.nulls import matched_shuffle, shuffles_for
from aanet_assets.science.selection.shapes import shapes_of
from aanet_assets.science.toy.process import UnionProcess
from aanet_assets.science.toy.recovery import recover
from aanet_assets.science.toy.train import LAYER
from aanet_assets.science.toy.transformer import LENGTH, residuals, with_bos
from aanet_assets.science.toy.truth import Truth
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import BeliefSettings
from aanet_assets_tests.benchmarks.calibration_toys import Toy, make_toy

HELDOUT = 8_000
LIMITS = BeliefSettings()
ASKED = {
    "kl_explained": LIMITS.min_kl_explained,
    "prediction_r2": LIMITS.min_prediction_r2,
    "two_step_r2": LIMITS.min_two_step_r2,
    "int_r2": LIMITS.min_int_r2,
    "moved": LIMITS.min_moved,
}


class Head:
    """The toy's SAE reads after the last layer: above it are the final norm and the head alone."""

    def __init__(self, toy: Toy, stream: np.ndarray):
        self._model, self._stream = toy.model, stream

    @torch.inference_mode()
    def predict(self, tokens: np.ndarray, streams: np.ndarray) -> np.ndarray:
        """As `Editor.predict`."""
        x = torch.from_numpy(streams.astype(np.float32))
        return self._model.lm_head(self._model.transformer.ln_f(x)).double().softmax(-1).numpy()

    def without(self, simplex: Simplex, here: Placed) -> Edited:
        """As `Editor.without`."""
        written = here.rows @ simplex.cluster.basis.T
        return Edited(here.tokens, self._stream[here.tokens] - written)


def simplices_of(toy: Toy) -> Iterator[Simplex]:
    """The toy's clusters and null clusters at the k that fits best."""
    n = len(toy.recipe.process.names)
    shuffles = range(shuffles_for(study.controls.nulls, n))
    null = [matched_shuffle(toy.labels, toy.activity, seed_for(7, toy.name, s)) for s in shuffles]
    for shuffle, labels in enumerate([toy.labels, *null]):
        for label in range(n):
            cluster_id = label + max(shuffle - 1, 0) * n
            latents = np.flatnonzero(labels == label)
            columns = span_basis(toy.decoder[latents])
            coordinates = toy.decoder[latents] @ orthonormal(columns)
            cluster = Cluster(cluster_id, latents, columns, coordinates)
            seed = seed_for(7, toy.name, shuffle, label)
            found = gather_rows([toy.codes[:, latents]], cluster, study.rows, study.extrema, seed)
            shapes = shapes_of(found.rows.train, study.ks, seed, study.controls)
            if shapes:
                k = max(shapes, key=lambda shape: shape.fit).k
                rows = found.rows.train[: study.controls.shape_rows].astype(np.float64)
                vertices = enclosing_vertices(rows, k, study.controls)
                yield Simplex(cluster, shuffle > 0, found.activity_limit, vertices)


def look_at(toy: Toy) -> pd.DataFrame:
    """All statistics of one toy's clusters, with what they truly are."""
    process = toy.recipe.process
    assert isinstance(process, UnionProcess)
    letters = process.sample(HELDOUT, LENGTH, seed_for(7, toy.name, "heldout"))
    text = with_bos(letters, process).numpy()
    stream = residuals(toy.model, process, letters, LAYER)
    codes = csr_matrix(toy.sae.encode(stream).detach().numpy())
    head = Head(toy, stream.numpy())
    p = np.concatenate([head.predict(text, part) for part in np.array_split(stream.numpy(), 16)])
    document = np.repeat(np.arange(HELDOUT), LENGTH)
    places = np.tile(np.arange(1, LENGTH + 1), HELDOUT)
    flat, alone = letters.ravel(), np.ones(p.shape[1], dtype=bool)
    heldout = Heldout(
        codes, p.astype(np.float16), flat, flat, document, places, document, text, alone
    )
    truth, found = Truth(process, letters), list(simplices_of(toy))
    asked = [
        tables.prediction_rows(heldout, found, LIMITS, truth),
        tables.update_rows(heldout, found, LIMITS, truth),
        tables.edit_rows(heldout, found, LIMITS, head),  # type: ignore[arg-type]
        tables.steering_rows(heldout, found, LIMITS, head, truth),  # type: ignore[arg-type]
    ]
    keys, whole = ["cluster_id", "null_cluster"], None
    for rows in asked:
        table = pd.DataFrame(list(rows))
        new = table if whole is None else table.drop(columns=whole.columns.difference(keys),
                                                     errors="ignore")  # fmt: skip
        whole = new if whole is None else whole.merge(new, on=keys, how="left")
    no_elbows = pd.DataFrame(
        {"cluster_id": range(len(process.components)), "aanet_recon_loss_elbow_k": None,
         "aanet_archetypal_loss_elbow_k": None}
    )  # fmt: skip
    recovered = recover(
        process.targets(toy.letters),
        lambda latents: toy.codes[:, latents],
        process.targets(letters),
        lambda latents: codes[:, latents],
        toy.labels,
        no_elbows,
        lambda *_: None,
    )
    known = recovered[["cluster_id", "true_k", "r2"]].assign(null_cluster=False)
    assert whole is not None
    whole = whole.merge(known, on=keys, how="left")
    simplex = whole["true_k"].notna()
    whole["what"] = np.where(whole["null_cluster"], "null", np.where(simplex, "simplex", "decoy"))
    enough = [whole[name] >= limit for name, limit in ASKED.items()]
    whole["passes"] = np.logical_and.reduce([*enough, whole["context"] <= LIMITS.max_context])
    whole["right_k"] = whole["true_k"] == whole["k"]
    own = {(s.cluster.cluster_id, s.null_cluster): toy.labels[s.cluster.latents] for s in found}
    # A null cluster whose latents are all of one true cluster is a simplex by chance.
    whole["of_one"] = [
        np.bincount(own[key]).max() / len(own[key])
        for key in zip(*whole[keys].T.values, strict=True)
    ]
    return whole.assign(toy=toy.name)


def main(
    processes: Annotated[list[str], typer.Option()] = ["union7", "union22"],  # noqa: B006
    seeds: Annotated[list[int], typer.Option()] = [11, 12, 13],  # noqa: B006
    transformer: Path | None = None,
) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    found = []
    for process in processes:
        for seed in seeds:
            found.append(look_at(make_toy(process, seed, transformer)))
            print(_summary(found[-1]).to_string(), flush=True)
    whole = pd.concat(found)
    print(_summary(whole.assign(toy="all")).to_string())
    missed = whole[(whole["what"] == "simplex") & ~whole["passes"]]
    print("simplices that do not pass:")
    print(missed[["toy", "cluster_id", "true_k", "k", "r2", *ASKED, "context"]].to_string())
    chance = whole[(whole["what"] == "null") & whole["passes"]]
    print("null clusters that pass, and the share of their latents that one cluster has:")
    print(chance[["toy", "cluster_id", "n_latents", "k", "of_one", *ASKED, "context"]].to_string())
    steered = whole[whole["what"] == "simplex"]
    print(steered[["true_reached", "true_kl_after", "random", "operator_error"]].describe())


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "clusters": ("passes", "size"), "pass": ("passes", "sum"), "right_k": ("right_k", "sum"),
        **{f"{name}_{end}": (name, end) for name in (*ASKED, "context") for end in ("min", "max")},
    }  # fmt: skip
    return table.groupby(["toy", "what"]).agg(**columns).round(3)


if __name__ == "__main__":
    typer.run(main)
