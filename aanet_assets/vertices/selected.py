"""The folder of selected clusters, `selected_clusters/n{n}/`, kept to those that are selected."""

from collections.abc import Iterable
from pathlib import Path


def remove_others(folder: Path, endings: tuple[str, ...], keep: Iterable[Path]) -> None:
    """Remove the files with these endings of clusters that are no longer selected."""
    kept = set(keep)
    for path in folder.glob("cluster_*"):
        if path.name.endswith(endings) and path not in kept:
            path.unlink()
