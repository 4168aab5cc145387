"""Clusters that are picked by hand, as text in the settings says them."""

import re


def parse_manual_clusters(text: str) -> dict[int, tuple[int, ...]]:
    """`512:23,45;768:100` -> {512: (23, 45), 768: (100,)}; ValueError where it does not parse."""
    picks: dict[int, tuple[int, ...]] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        match = re.fullmatch(r"(\d+)\s*:\s*(\d+(?:\s*,\s*\d+)*)", part)
        if not match:
            raise ValueError(f"{part!r} is not of the form 'n_clusters:id,id', as in '512:23,45'")
        n, ids = int(match[1]), tuple(int(i) for i in match[2].split(","))
        picks[n] = (*picks.get(n, ()), *ids)
    return picks


def parse_manual_k(text: str) -> dict[tuple[int, int], int]:
    """`512:261=3` -> {(512, 261): 3}; several are split by `;`. ValueError if malformed."""
    picks: dict[tuple[int, int], int] = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        match = re.fullmatch(r"(\d+)\s*:\s*(\d+)\s*=\s*(\d+)", part)
        if not match:
            raise ValueError(f"{part!r} is not of the form 'n_clusters:id=k', as in '512:261=3'")
        pair, k = (int(match[1]), int(match[2])), int(match[3])
        if picks.setdefault(pair, k) != k:
            raise ValueError(
                f"cluster {pair[1]} of n_clusters {pair[0]} is given k {picks[pair]} and k {k}; "
                "give one"
            )
    return picks
