"""Checks of the review page."""

from pathlib import Path

from aanet_assets.review.page import read_data
from aanet_assets.storage.step import Finding

LARGEST = 7_000_000


def check_page(path: Path, n: int) -> list[Finding]:
    """Check that the page can be read and holds every cluster."""
    try:
        ids = [cluster["id"] for cluster in read_data(path)["clusters"]]
    except (ValueError, KeyError):
        ids = []
    size = path.stat().st_size
    return [
        Finding(
            "whole",
            ids == list(range(n)),
            f"the page holds {len(ids)} clusters that can be read; it must hold {n}",
        ),
        Finding("size", size < LARGEST, f"the page has {size / 1e6:.1f} MB; 7 MB is the most"),
    ]
