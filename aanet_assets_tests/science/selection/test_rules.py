"""Rules as declared fit settings and tables, and what is evaluated is what they say."""

from pathlib import Path
from typing import get_args

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aanet_assets.science.selection.categories import categorise, limits_of
from aanet_assets.science.selection.filters import select_clusters
from aanet_assets.science.selection.quality import failures_of, rules_in_use
from aanet_assets.science.selection.rules import MODES, Category, Rule
from aanet_assets.steps.evidence import EVIDENCE
from aanet_assets.steps.functional import FUNCTIONAL_EVIDENCE
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.study.settings import BeliefSettings, ControlSettings, SelectionSettings
from aanet_assets_tests.science.selection.elbow_tables import elbow_table


def test_rules_name_settings_and_columns_that_there_are() -> None:
    assert tuple(MODES) == get_args(SelectionSettings.model_fields["mode"].annotation)
    groups = {
        "selection": SelectionSettings, "controls": ControlSettings, "belief": BeliefSettings
    }  # fmt: skip
    tables = {table.name: table for table in (CONSOLIDATED_METRICS, EVIDENCE, FUNCTIONAL_EVIDENCE)}
    for mode in MODES.values():
        known = set(SelectionSettings.model_fields) | set(groups[mode.limits].model_fields)
        assert set(mode.settings) <= known
        assert {*mode.columns, *filter(None, [mode.k])} <= set(tables[mode.table].names)
    of_groups = [set(group.model_fields) for group in groups.values()]
    for name in {name for mode in MODES.values() for name in mode.settings}:
        assert sum(name in own for own in of_groups) == 1, "the page has one name for each"
    obeyed = {name.rpartition(".")[2] for name in selected_clusters.settings}
    assert {name for mode in MODES.values() for name in mode.settings} <= (
        obeyed | set(SelectionSettings.model_fields)
    )


RULES = {
    "at least {limit}": Rule("size", ">=", "least", "at least {limit}", "{value} < {limit}"),
    "known": Rule("far", "known", "", "known", missing="{why}"),
    "near": Rule("far", "<=", "most", "near", "{value} > {limit} of {size}", digits=2),
    "falls": Rule("falls", "true", "", "falls", "it rises"),
}


@pytest.mark.parametrize(
    ("values", "reasons"),
    [
        ({}, []),
        ({"size": 2}, ["2 < 3"]),
        ({"size": 3, "far": 0.25}, []),
        ({"far": 0.2500001}, ["0.2500001 > 0.25 of 3"]),
        ({"falls": False, "far": 9.0}, ["9 > 0.25 of 3", "it rises"]),
        # Where it is not known how far, nothing further is asked.
        ({"size": 123_456, "far": None, "falls": False}, ["nobody looked"]),
        ({"falls": pd.NA}, ["falls is not known"]),
    ],
)
def test_each_comparison_and_its_words(values: dict, reasons: list[str]) -> None:
    whole = {"size": 3, "far": 0.1, "falls": True, "why": "nobody looked", **values}
    found = failures_of(whole, RULES, {"least": 3, "most": 0.25})
    assert list(found.values()) == reasons


def test_a_rule_has_a_switch_and_whole_numbers_have_all_their_digits() -> None:
    off = dict(SelectionSettings(min_latents=1_234_567, recon_monotonic=False))
    names = list(rules_in_use("elbow", off))
    assert names[0] == "n_latents >= 1234567"
    assert [name for name in names if "does not rise" in name] == [
        "archetypal loss does not rise before its elbow"
    ]


def test_a_rule_that_is_added_turns_clusters_down(monkeypatch: pytest.MonkeyPatch) -> None:
    elbow = MODES["elbow"]
    few = Rule("n_latents", "<=", "max_k_differential", "few", "{value} latents > {limit}")
    alone = Category("E", (("arch", "d_sd"),), True, "archetypal alone {arch}, {n_latents} latents")
    monkeypatch.setitem(MODES, "elbow", elbow._replace(rules=(few,), categories=(alone,)))
    strength = "aanet_archetypal_loss_elbow_strength"
    table = elbow_table([{"n_latents": n, strength: n / 10} for n in (1, 2, 3, 5)], 4)
    found = select_clusters(table, SelectionSettings(max_k_differential=3), 4)
    assert found.funnel[["filter", "setting", "remaining"]].values.tolist() == [
        ["few", "max_k_differential", 3],
        ["reaches a category", "d_sd", 1],
    ]
    assert found.verdicts["category"].fillna("").tolist() == ["", "", "E", ""]
    reasons = found.verdicts["reason"].tolist()
    assert reasons[2:] == ["archetypal alone 0.3 > 0.2, 3 latents", "5 latents > 3"]
    assert "archetypal strength 0.2 (E > 0.2), k_differential 0 (E needs 0)" in reasons[1]


def test_limits_of_none_and_of_one_are_not_numbers() -> None:
    one = {"recon": 0.3, "arch": 0.4}
    for passed in ([], [one]):
        limits = limits_of(passed, dict(SelectionSettings()))
        assert limits.pop("n_passing") == len(passed)
        assert pd.isna(list(limits.values())).all()
        assert {"recon_mean", "arch_max", "a_recon", "c_arch", "d_arch"} <= set(limits)
    category, reason = categorise({"k_differential": 0}, one, {**limits, "n_passing": 1})
    assert (category, reason[:24]) == (None, "passes every filter, but")


def test_a_table_with_the_modes_old_names_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    old = {
        "n_clusters_total": [7], "cluster_id": [3], "selected": [True], "category": ["A"], "k": [3],
        "k_source": ["manual"], "reason": ["why"], "guide_category": ["A"], "guide_reason": ["why"],
        "calibrated_category": ["S"], "calibrated_k": [3], "calibrated_reason": ["why"],
    }  # fmt: skip
    pq.write_table(pa.table(old), tmp_path / "n7.parquet")
    (row,) = SELECTED_CLUSTERS.read(tmp_path / "n7.parquet").to_dict("records")
    renamed = ["elbow_category", "elbow_reason", "geometric_category", "geometric_k",
               "geometric_reason"]  # fmt: skip
    assert [pd.isna(row[name]) for name in renamed] == [True] * 5
    assert {name: row[name] for name in old if name in row} == {
        name: values[0] for name, values in old.items() if name in row
    }
