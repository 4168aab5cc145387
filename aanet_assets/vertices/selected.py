"""The folder of selected clusters, `selected_clusters/n{n}/`: JSON files and what is left over."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aanet_assets.files import write_text


def write_json(path: Path, content: Any) -> Path:
    """Write JSON atomically; equal content gives equal bytes. NaN is refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    return path


def write_json_lines(path: Path, rows: Iterable[Any]) -> Path:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    return path


def remove_others(folder: Path, endings: tuple[str, ...], keep: Iterable[Path]) -> None:
    """Remove the files with these endings of clusters that are no longer selected."""
    kept = set(keep)
    for path in folder.glob("cluster_*"):
        if path.name.endswith(endings) and path not in kept:
            path.unlink()
