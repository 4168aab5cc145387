"""The categories of stage 2: limits on the elbow strengths, and who exceeds them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from aanet_assets.science.selection.rules import ELBOW, ELBOWS_APART, MODES, Category
from aanet_assets.science.selection.wording import compared, said

Limits = dict[str, float]
"""Strengths among the clusters that pass the filters, and what each category asks for.

`n_passing`; of each strength `<strength>_mean`, `_sd` and `_max`; `<category>_<strength>`, as
`a_recon` for category A. NaN for a strength that fewer than two clusters have.
"""


def limits_of(passed: Sequence[Mapping[str, float]], settings: Mapping[str, Any]) -> Limits:
    """Limits from the strengths of the clusters that pass the filters.

    Those that do not count are NaN, as `quality.counted` leaves them, and are passed over.
    Standard deviations have ddof 1. Means are exact, so that the mean of equal strengths is that
    strength and none of them lies above it.
    """
    found: Limits = {"n_passing": len(passed)}
    for name in MODES[ELBOW].strengths:
        moments = _moments([strengths[name] for strengths in passed])
        found |= zip((f"{name}_mean", f"{name}_sd", f"{name}_max"), moments, strict=True)
    for category in _by_name():
        for name, setting in category.tests:
            limit = found[f"{name}_mean"] + settings[setting] * found[f"{name}_sd"]
            found[limit_name(category, name)] = limit
    return found


def _moments(strengths: Sequence[float]) -> tuple[float, float, float]:
    """Mean, standard deviation and largest of the strengths that count; NaN below two of them."""
    counting = [s for s in strengths if not math.isnan(s)]
    if len(counting) < 2:
        return math.nan, math.nan, math.nan
    return statistics.mean(counting), statistics.stdev(counting), max(counting)


def category_of(
    mode: str, values: Mapping[Any, Any], strengths: Mapping[str, float], limits: Limits
) -> Category | None:
    """The first category of the mode that holds, of a cluster that passes the filters."""
    for category in MODES[mode].categories:
        equal = not category.equal_elbows or values[ELBOWS_APART] == 0
        if equal and all(
            strengths[name] > limits[limit_name(category, name)] for name, _ in category.tests
        ):
            return category
    return None


def categorise(
    values: Mapping[str, Any], strengths: Mapping[str, float], limits: Limits
) -> tuple[str | None, str]:
    """Category of a cluster that passes the elbow mode's filters, or None; the reason in words."""
    category = category_of(ELBOW, values, strengths, limits)
    if category is not None:
        above = {
            name: " > ".join(compared(strengths[name], limits[limit_name(category, name)]))
            for name, _ in category.tests
        }
        return category.name, category.words.format_map({**values, **above})
    if limits["n_passing"] < 2:
        return None, (
            "passes every filter, but no other cluster does: categories need a standard deviation, "
            "and so 2 clusters"
        )
    short = [
        f"{strength.loss} strength {said(strengths[name])} ({asked(name, limits)})"
        for name, strength in MODES[ELBOW].strengths.items()
    ]
    equal = [f"{c.name} needs 0" for c in _by_name() if c.equal_elbows]
    needs = f" ({', '.join(equal)})" if equal else ""
    return None, (
        f"passes every filter, reaches no category: {', '.join(short)}, k_differential "
        f"{values[ELBOWS_APART]}{needs}"
    )


def asked(
    name: str, limits: Mapping[str, float | None], *, even_of_equal_elbows: bool = True
) -> str:
    """What the categories ask of a strength, as `A > 0.4, B > 0.5`."""
    return ", ".join(
        f"{category.name} > {said(limits[limit_name(category, name)])}"
        for category in _by_name()
        if name in dict(category.tests) and (even_of_equal_elbows or not category.equal_elbows)
    )


def _by_name() -> list[Category]:
    return sorted(MODES[ELBOW].categories)


def limit_name(category: Category, strength: str) -> str:
    """Name of a limit among `Limits`."""
    return f"{category.name.lower()}_{strength}"
