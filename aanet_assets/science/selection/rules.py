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
    table: str
    """Whose columns the rules compare."""
    limits: str = "selection"
    """Group of the study's settings that holds those that are not of `selection`."""
    k: str = ""
    """Column that gives the k of stage 3; empty where `selection.k_from` says which elbow does."""

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


ELBOW, GEOMETRIC, FUNCTIONAL = "elbow", "geometric", "functional"
ELBOWS_APART = "k_differential"
"""Column that is 0 for equal elbows."""

_ENOUGH_LATENTS = Rule(
    "n_latents", ">=", "min_latents", "n_latents >= {limit}", "n_latents {value} < {limit}"
)
_UNAVAILABLE = "{column} is not known: {unavailable}"
MODES: dict[str, Mode] = {
    # The guide's.
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
        table="consolidated_metrics",
    ),
    # How the rows lie.
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
        table="evidence",
        limits="controls",
        k="simplex_k",
    ),
    # What the model does with it.
    FUNCTIONAL: Mode(
        rules=(
            _ENOUGH_LATENTS,
            Rule("kl_explained", "known", "", "its simplex can be tested", missing=_UNAVAILABLE),
            Rule(
                "kl_explained",
                ">=",
                "min_kl_explained",
                "mixtures explain predictions (>= {limit})",
                "mixtures over its {k} vertices explain {value} < {limit} of its predictions",
                digits=3,
            ),
            Rule(
                "prediction_r2",
                ">=",
                "min_prediction_r2",
                "a hidden chain predicts tokens (R^2 >= {limit})",
                "a hidden chain of its vertices predicts tokens with an R^2 of {value} < {limit}",
                _UNAVAILABLE,
                digits=3,
            ),
            Rule(
                "two_step_r2",
                ">=",
                "min_two_step_r2",
                "two steps of the chain compose (R^2 >= {limit})",
                "two steps of the chain compose with an R^2 of {value} < {limit}",
                "{column} is not known: too few tokens have two operators after them",
                digits=3,
            ),
            Rule(
                "int_r2",
                ">=",
                "min_int_r2",
                "edits act as mixtures (R^2 >= {limit})",
                "edits act as mixtures of those to the vertices with an R^2 of {value} < {limit}",
                _UNAVAILABLE,
                digits=3,
            ),
            Rule(
                "context",
                "<=",
                "max_context",
                "edits act alike at all tokens (<= {limit})",
                "the token that is edited decides {value} > {limit} of what an edit does",
                digits=3,
            ),
            Rule(
                "moved",
                ">=",
                "min_moved",
                "edits move predictions (>= {limit} nats)",
                "edits move predictions by {value} < {limit} nats",
                digits=3,
            ),
        ),
        strengths={},
        categories=(
            Category(
                "F",
                (),
                False,
                "the model uses its {k} vertices: mixtures explain {kl_explained:.3g} of its "
                "predictions, a hidden chain predicts tokens (R^2 {prediction_r2:.3g}, two steps "
                "{two_step_r2:.3g}), and edits act as mixtures (R^2 {int_r2:.3g}, context "
                "{context:.2g}, moved {moved:.2g} nats)",
            ),
        ),
        table="functional_evidence",
        limits="belief",
        k="k",
    ),
}
