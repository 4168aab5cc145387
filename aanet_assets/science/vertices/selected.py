"""The selected clusters of one n_clusters, and their folder, `selected_clusters/n{n}/`."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Chosen(NamedTuple):
    """One selected cluster."""

    cluster_id: int
    k: int
    category: str
    k_source: str

    @property
    def named(self) -> dict[str, int | str]:
        """What the names of its files are made of."""
        return {"cluster_id": self.cluster_id, "k": self.k, "category": self.category}


def chosen_of(verdicts: pd.DataFrame) -> list[Chosen]:
    """The selected clusters, given the table `selected_clusters`."""
    rows = verdicts.loc[verdicts["selected"], list(Chosen._fields)].to_dict("records")
    return [
        Chosen(int(row["cluster_id"]), int(row["k"]), str(row["category"]), str(row["k_source"]))
        for row in rows
    ]


def remove_others(folder: Path, endings: tuple[str, ...], keep: Iterable[Path]) -> None:
    """Remove the files with these endings of clusters that are no longer selected."""
    kept = set(keep)
    for path in folder.glob("cluster_*"):
        if path.name.endswith(endings) and path not in kept:
            path.unlink()
