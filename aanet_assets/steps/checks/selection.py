"""Checks of the selected clusters."""

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from aanet_assets.science.selection.rules import MODES
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding

CATEGORIES = sorted(
    {"M", *(category.name for mode in MODES.values() for category in mode.categories)}
)


def check_selection(
    verdicts: pd.DataFrame, funnel: pd.DataFrame, n: int, ks: Sequence[int], mode: str
) -> list[Finding]:
    """Check verdicts and funnel of one n. That nothing is selected is a result like any other."""
    return [
        _complete(verdicts, n),
        _k_and_category(verdicts[verdicts["selected"]], ks),
        _funnel(funnel[funnel["mode"] == mode], verdicts, n),
    ]


def _complete(verdicts: pd.DataFrame, n: int) -> Finding:
    mute = verdicts["cluster_id"][verdicts["reason"].fillna("") == ""]
    once = sorted(verdicts["cluster_id"]) == list(range(n))
    return Finding(
        "complete",
        once and mute.empty,
        f"{len(verdicts)} verdicts, {len(mute)} of them without a reason; each of {n} clusters "
        "must have one, with a reason",
    )


def _k_and_category(chosen: pd.DataFrame, ks: Sequence[int]) -> Finding:
    wrong = chosen[~(chosen["k"].isin(ks) & chosen["category"].isin(CATEGORIES))]
    described = [
        f"cluster {row.cluster_id}: k {row.k}, category {row.category}"
        for row in wrong.itertuples()
    ]
    named = f" ({listed(described)})" if described else ""
    return Finding(
        "k_and_category",
        not described,
        f"{len(described)} of {len(chosen)} selected clusters lack a k out of {listed(ks, 20)} or "
        f"a category out of {', '.join(CATEGORIES)}{named}; none may",
    )


def _funnel(funnel: pd.DataFrame, verdicts: pd.DataFrame, n: int) -> Finding:
    steps = funnel.sort_values("position")
    remaining = [n, *map(int, steps["remaining"])]
    falls = all(a >= b for a, b in pairwise(remaining))
    adds_up = bool((steps["failed_cumulative"] + steps["remaining"] == n).all())
    here = [before - after for before, after in pairwise(remaining)]
    adds_up &= here == [int(count) for count in steps["failed_here"]]
    by_rules = int((verdicts["selected"] & (verdicts["category"] != "M").fillna(False)).sum())
    return Finding(
        "funnel",
        len(steps) > 0 and falls and adds_up and by_rules <= remaining[-1],
        f"the funnel goes {' > '.join(map(str, remaining))}, and {by_rules} clusters are selected "
        f"by its rules; it must never rise, leave no fewer than those, add up to {n}, and "
        "say of each filter what it turned away",
    )
