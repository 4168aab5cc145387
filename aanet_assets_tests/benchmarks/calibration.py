"""How well statistics tell simplices from decoys and null clusters, over several toys.

Trains further SAEs on a toy's transformer, clusters their latents, makes one shuffle of null
clusters, trains AANets with replicates, and prints tables and the ROC curves:
`python -m aanet_assets_tests.benchmarks.calibration FOLDER`. What is finished in FOLDER is not
done again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score, roc_curve

from aanet_assets.defs.toy import study
from aanet_assets.science.selection.evidence import empirical_p, q_values
from aanet_assets.science.selection.rules import GEOMETRIC
from aanet_assets.science.selection.verdicts import select_by_table
from aanet_assets.study.settings import ControlSettings
from aanet_assets.study.threads import torch_threads
from aanet_assets_tests.benchmarks.calibration_toys import chance, clusters_of_toy

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
    "the smaller of that and 1 - p of latents active together": "smaller",
    "1 - p of latents active together, clusters that no simplex fits last": "own_order",
}
BOLD = {
    "strength": "#1f4e9c", "coactivity": "#1b7837", "simplex_fit": "#b2182b", "own_order": "black",
}  # fmt: skip
"""What is drawn in a colour of its own."""
KS_PICKED = {
    "elbow, first seed (the guide's)": "k_first",
    "elbow of most replicates": "elbow_k",
    "AANet's explained variance times occupancy": "k_aanet",
    "PCA's explained variance times occupancy of the enclosing simplex": "simplex_k",
}
NOMINAL = (0.05, 0.1, 0.2)
"""False discovery rates that are asked for."""


def judged(table: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """The clusters of one toy, null ones too, with the verdict of the geometric mode on each.

    Adds two ways to make one score of the mode's two numbers, of which `own_order` is the order in
    which the mode takes clusters as `max_q` grows; `selected`, where null clusters are judged by
    themselves as if they were real; and `found_{rate}`, where real and null ones stand in one list
    whose false discovery rate is to be controlled.
    """

    def floats(frame: pd.DataFrame, name: str) -> np.ndarray:
        return frame[name].to_numpy(dtype=float)

    names = ("coactivity", "n_latents")
    p = empirical_p(*(floats(f, name) for f in (table, references) for name in names))

    def select(rows: pd.Series, max_q: float) -> pd.Series:
        # The mode would look past null clusters, and their ids are those of real ones.
        own = table[rows].assign(
            null_cluster=False, coactivity_q=q_values(p[rows]), cluster_id=np.flatnonzero(rows)
        )
        limits = ControlSettings(max_q=max_q)
        found = select_by_table(GEOMETRIC, own, study.selection, limits, len(own))
        chosen = found.selected["cluster_id"].astype(int)
        return pd.Series(np.isin(np.arange(len(table)), chosen), table.index)

    null, fit, controls = (
        table["null_cluster"].astype(bool),
        floats(table, "simplex_fit"),
        ControlSettings(),
    )
    every = pd.Series(True, table.index)
    return table.assign(
        smaller=np.fmin(fit, 1 - p),
        own_order=np.where(fit >= controls.min_fit, 1 - p, fit - 1),
        selected=select(null, controls.max_q) | select(~null, controls.max_q),
        **{f"found_{rate}": select(every, rate) for rate in NOMINAL},
    )


def print_tables(clusters: pd.DataFrame, console: Console) -> None:
    """Areas under the curves, k found, and what the geometric mode selects."""
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
                f"geometric mode selects {int(group['selected'].sum())} of {len(group)} {what}"
            )
        fits = own.groupby("what")["simplex_fit"]
        console.print(
            f"smallest fit of a simplex {fits.min()['simplex']:.3f}, largest of a decoy "
            f"{fits.max()['decoy']:.3f}"
        )
    for rate in NOMINAL:
        found = clusters[clusters[f"found_{rate}"]]
        false = int((found["what"] != "simplex").sum())
        console.print(
            f"false discovery rate of {rate:.0%} asked for, real and null clusters in one list: "
            f"{false} of {len(found)} found are no simplex ({false / max(1, len(found)):.1%})"
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--processes", nargs="+", default=["union7", "union22"])
    parser.add_argument("--transformer", type=Path, help="in place of the shipped one; a FOLDER "
                        "of results is for one transformer only")  # fmt: skip
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found, all_references = [], []
    for process in arguments.processes:
        for seed in arguments.seeds:
            with torch_threads(1):
                clusters, references = (
                    _kept(
                        arguments.folder / f"{process}_{seed}{ending}.parquet",
                        make,
                        process,
                        seed,
                        arguments.transformer,
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
