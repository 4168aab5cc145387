"""The verdicts of all modes on a toy, cluster by cluster, and on its null clusters.

`python -m aanet_assets_tests.benchmarks.verdicts toy` prints the tables of docs/evidence.md from a
study that has been run. What a cluster is, is told by its latents: those of the clusters that
`recovery` matched with the components, at the process's own number of clusters.
"""

import sys
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from aanet_assets.defs import toy, toy_large
from aanet_assets.science.selection.rules import FUNCTIONAL, MODES
from aanet_assets.science.selection.verdicts import select_by_table
from aanet_assets.steps.clusters import CLUSTERS, cluster_rows
from aanet_assets.steps.functional import FUNCTIONAL_EVIDENCE, functional_evidence
from aanet_assets.steps.ground_truth import RECOVERY, recovery
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.storage.run import Run
from aanet_assets.study.settings import BeliefSettings, SelectionSettings
from aanet_assets.study.study import Study


def component_of(study: Study) -> dict[int, str]:
    """Component of each latent, where a cluster was matched with one."""
    n = study.known_truth.n_clusters
    matched = Run(study, recovery.at(n=n)).read(RECOVERY).set_index("cluster_id")["component"]
    clusters = Run(study, cluster_rows.at(n=n)).read(CLUSTERS)
    return {
        int(latent): str(matched[cluster])
        for cluster, latents in zip(clusters["cluster_id"], clusters["latent_indices"], strict=True)
        if cluster in matched.index
        for latent in latents
    }


def verdict_rows(study: Study) -> Iterator[tuple[str, ...]]:
    """n_clusters, cluster, what it is, and each mode's category."""
    known = component_of(study)
    sizes = Counter(known.values())
    for n in study.n_clusters:
        clusters = Run(study, cluster_rows.at(n=n)).read(CLUSTERS).set_index("cluster_id")
        verdicts = Run(study, selected_clusters.at(n=n)).read(SELECTED_CLUSTERS)
        for row in verdicts.sort_values("cluster_id").to_dict("records"):
            held = Counter(
                known.get(int(latent), "none")
                for latent in clusters.loc[row["cluster_id"], "latent_indices"]
            )
            what = " and ".join(
                name if count == sizes[name] else f"{count} of {sizes[name]} latents of {name}"
                for name, count in held.items()
            )
            yield str(n), str(row["cluster_id"]), what, *(_said(row, mode) for mode in MODES)


def _said(row: dict, mode: str) -> str:
    category, k = row[f"{mode}_category"], row.get(f"{mode}_k")
    if pd.isna(category):
        return "-"
    return category if k is None else f"{category}, k {k:.0f}"


def null_rows(study: Study) -> Iterator[tuple[str, ...]]:
    """Limits of the functional mode, and how many null clusters pass them at each n_clusters."""
    nulls = {}
    for n in study.n_clusters:
        table = Run(study, functional_evidence.at(n=n)).read(FUNCTIONAL_EVIDENCE)
        nulls[n] = table[table["null_cluster"].astype(bool)].assign(null_cluster=False)
    own = study.belief_settings
    names = [name for name in MODES[FUNCTIONAL].settings if name in BeliefSettings.model_fields]
    off = {name: float("inf" if name.startswith("max") else "-inf") for name in names}

    def passing(limits: BeliefSettings) -> list[str]:
        least = SelectionSettings(min_latents=1)
        return [
            str(len(select_by_table(FUNCTIONAL, table, least, limits, n).selected))
            for n, table in nulls.items()
        ]

    yield "none", *(str(len(table)) for table in nulls.values())
    yield "all", *passing(own)
    for name in names:
        others = {other: value for other, value in off.items() if other != name}
        yield f"{name} alone", *passing(own.model_copy(update=others))
    for name in names:
        yield f"all but {name}", *passing(own.model_copy(update={name: off[name]}))


def print_table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    """A table in Markdown."""
    for row in (head, ("---",) * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print()


if __name__ == "__main__":
    chosen = {"toy": toy.study, "toy_large": toy_large.study}[sys.argv[1]]
    print_table(("n_clusters", "cluster", "what it is", *MODES), verdict_rows(chosen))
    counted = (f"null clusters at {n}" for n in chosen.n_clusters)
    print_table(("limits", *counted), null_rows(chosen))
