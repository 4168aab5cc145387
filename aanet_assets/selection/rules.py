"""The rules of selection, as data: what each mode asks of a cluster, and which categories it has.

`quality.py` and `categories.py` evaluate them for the tables, `review/page.js` for the review page,
which gets them as JSON. A rule is changed, added or taken out here, and nowhere else.
"""

import math
from typing import NamedTuple

STRONGEST_FALL = 1 / math.sqrt(2)
"""Largest elbow strength of a loss that never rises."""


class Rule(NamedTuple):
    """A filter: what a column of the mode's table must be. A cluster that lacks the value fails."""

    column: str
    comparison: str
    """`>=` or `<=` the setting; `true`; or `known`: without it no later rule is asked."""
    setting: str
    """With which the column is compared; empty where it is with none."""
    name: str
    """What a cluster must be, in words that may name the `{limit}`."""
    failure: str = ""
    """Why a cluster fails, in words that may name its `{value}`, the `{limit}` and its columns."""
    missing: str = "{column} is not known"
    """Why a cluster fails whose value is missing."""
    switch: str = ""
    """Setting that turns the rule on and off; empty for one that is always on."""
    digits: int = 5
    """In which value and limit are told, or in more where that takes to tell them apart."""


class Strength(NamedTuple):
    """An elbow strength, as the categories take it."""

    column: str
    loss: str
    """Whose it is, in words."""
    switch: str
    """Setting without which the loss may rise, and its strengths can be noise of any size."""
    most: float = STRONGEST_FALL
    """Largest strength that counts then; a larger one is in no mean and reaches no category."""


class Category(NamedTuple):
    """One of the categories of the clusters that pass all rules; the first that holds is theirs."""

    name: str
    tests: tuple[tuple[str, str], ...]
    """Strengths, each with a setting: it lies above the mean + so many standard deviations."""
    equal_elbows: bool
    """Whether the two elbows must be at the same k, too."""
    words: str
    """Why a cluster is in it, in words that may name its strengths with limits, or its columns."""


class Mode(NamedTuple):
    """How one mode selects: rules in the order of its funnel, categories in order of priority."""

    rules: tuple[Rule, ...]
    strengths: dict[str, Strength]
    """By the names that the tests and words of the categories have for them."""
    categories: tuple[Category, ...]

    @property
    def deviations(self) -> tuple[str, ...]:
        """The settings of the categories' tests."""
        tests = [test for category in self.categories for test in category.tests]
        return tuple(sorted({setting for _, setting in tests}))

    @property
    def settings(self) -> tuple[str, ...]:
        """All settings that decide what is selected, but for manual picks."""
        of_rules = [name for rule in self.rules for name in (rule.setting, rule.switch)]
        switches = [strength.switch for strength in self.strengths.values()]
        return tuple(dict.fromkeys(filter(None, [*of_rules, *switches, *self.deviations])))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that decide it; that of the distance between elbows is always among them."""
        strengths = [strength.column for strength in self.strengths.values()]
        equal = [ELBOWS_APART] if self.strengths else []
        return tuple(dict.fromkeys([*(rule.column for rule in self.rules), *strengths, *equal]))


ELBOW, GEOMETRIC = "elbow", "geometric"
ELBOWS_APART = "k_differential"
"""Column that is 0 for equal elbows."""

_ENOUGH_LATENTS = Rule(
    "n_latents", ">=", "min_latents", "n_latents >= {limit}", "n_latents {value} < {limit}"
)
MODES: dict[str, Mode] = {
    # The guide's; columns of `consolidated_metrics`, settings of the study's `selection`.
    ELBOW: Mode(
        rules=(
            _ENOUGH_LATENTS,
            Rule(
                ELBOWS_APART,
                "known",
                "",
                "has elbow metrics",
                missing="elbow metrics missing: {no_elbow}",
            ),
            Rule(
                "recon_is_monotonic",
                "true",
                "",
                "recon loss does not rise before its elbow",
                "recon loss rises before its elbow",
                switch="recon_monotonic",
            ),
            Rule(
                "arch_is_monotonic",
                "true",
                "",
                "archetypal loss does not rise before its elbow",
                "archetypal loss rises before its elbow",
                switch="arch_monotonic",
            ),
            Rule(
                "recon_pct_decrease",
                ">=",
                "min_recon_pct_decrease",
                "recon loss falls by >= {limit}%",
                "recon loss falls by {value}% < {limit}%",
                digits=4,
            ),
            Rule(
                "arch_pct_decrease",
                ">=",
                "min_arch_pct_decrease",
                "archetypal loss falls by >= {limit}%",
                "archetypal loss falls by {value}% < {limit}%",
                digits=4,
            ),
            Rule(
                ELBOWS_APART,
                "<=",
                "max_k_differential",
                "k_differential <= {limit}",
                "k_differential {value} > {limit}",
            ),
        ),
        strengths={
            "recon": Strength("aanet_recon_loss_elbow_strength", "recon", "recon_monotonic"),
            "arch": Strength(
                "aanet_archetypal_loss_elbow_strength", "archetypal", "arch_monotonic"
            ),
        },
        categories=(
            Category(
                "A",
                (("recon", "a_sd"), ("arch", "a_sd")),
                False,
                "both strengths stand out: recon {recon}, archetypal {arch}",
            ),
            Category(
                "D",
                (("recon", "d_sd"), ("arch", "d_sd")),
                True,
                "the elbows agree and both strengths are high: recon {recon}, archetypal {arch}",
            ),
            Category("B", (("recon", "b_sd"),), False, "recon strength alone stands out: {recon}"),
            Category(
                "C", (("arch", "c_sd"),), False, "archetypal strength alone stands out: {arch}"
            ),
        ),
    ),
    # Columns of `evidence`, settings of `selection` and `trust`.
    GEOMETRIC: Mode(
        rules=(
            _ENOUGH_LATENTS,
            Rule(
                "coactivity_q",
                "<=",
                "max_q",
                "latents fire together (q <= {limit})",
                "its latents fire together no more than chance groups do: "
                "coactivity {coactivity:.3g}, q {value} > {limit}",
                "it is not known whether its latents fire together: it is active at no token",
                digits=2,
            ),
            Rule(
                "simplex_fit",
                ">=",
                "min_fit",
                "a simplex fits (>= {limit})",
                "no simplex fits: the best, of {simplex_k} vertices, has {value} < {limit}",
                "no simplex can be fitted: its rows do not vary, or are too few",
                digits=3,
            ),
        ),
        strengths={},
        categories=(
            Category(
                "S",
                (),
                False,
                "a simplex of {simplex_k} vertices fits ({simplex_fit:.3g}), and its latents fire "
                "together (coactivity {coactivity:.3g}, q {coactivity_q:.2g})",
            ),
        ),
    ),
}
