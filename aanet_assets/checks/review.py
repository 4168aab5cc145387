"""Checks of the review page."""

import json
import re
from pathlib import Path

from aanet_assets.checks.finding import Finding

LARGEST = 5_000_000
_DATA = re.compile(r'<script id="data" type="application/json">(.*?)</script>', re.DOTALL)


def check_page(path: Path, n: int) -> list[Finding]:
    """Check that the page can be read and holds every cluster."""
    found = _DATA.search(path.read_text())
    try:
        ids = [cluster["id"] for cluster in json.loads(found[1])["clusters"]] if found else []
    except (ValueError, KeyError):
        ids = []
    size = path.stat().st_size
    return [
        Finding(
            "whole",
            ids == list(range(n)),
            f"the page holds {len(ids)} clusters that can be read; it must hold {n}",
        ),
        Finding("size", size < LARGEST, f"the page has {size / 1e6:.1f} MB; 5 MB is the most"),
    ]
