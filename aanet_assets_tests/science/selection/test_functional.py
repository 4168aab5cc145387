"""The functional mode: its limits, what is not known, picks, and verdicts beside the others'."""

import numpy as np
import pandas as pd
import pytest

from aanet_assets.science.selection.filters import Selection
from aanet_assets.science.selection.verdicts import (
    explain_none_of,
    select_all,
    select_by_table,
    verdict_tables,
)
from aanet_assets.study.settings import BeliefSettings, ControlSettings, SelectionSettings
from aanet_assets_tests.science.selection.elbow_tables import elbow_table

GOOD = {
    "n_latents": 3, "k": 3, "kl_explained": 0.98, "prediction_r2": 0.97, "two_step_r2": 0.96,
    "int_r2": 0.95, "context": 0.01, "moved": 0.06, "unavailable": "",
}  # fmt: skip
NOT_TESTED = dict.fromkeys([*GOOD][2:8], np.nan)


def table(*clusters: dict, nulls: int = 2) -> pd.DataFrame:
    rows = [
        {**GOOD, **own, "cluster_id": i, "null_cluster": False} for i, own in enumerate(clusters)
    ]
    rows += [{**GOOD, "cluster_id": i, "null_cluster": True} for i in range(nulls)]
    return pd.DataFrame(rows).astype({"k": "Int64"})


def select(*clusters: dict, belief: BeliefSettings | None = None, **settings: object) -> Selection:
    chosen = SelectionSettings.model_validate(settings)
    limits = belief or BeliefSettings()
    return select_by_table("functional", table(*clusters), chosen, limits, len(clusters))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_latents": 1}, "n_latents 1 < 2"),
        ({"kl_explained": 0.9499999},
         "mixtures over its 3 vertices explain 0.9499999 < 0.95 of its predictions"),
        ({"prediction_r2": -0.2},
         "a hidden chain of its vertices predicts tokens with an R^2 of -0.2 < 0.95"),
        ({"two_step_r2": 0.5}, "two steps of the chain compose with an R^2 of 0.5 < 0.9"),
        ({"int_r2": 0.776},
         "edits act as mixtures of those to the vertices with an R^2 of 0.776 < 0.9"),
        ({"context": 0.0715},
         "the token that is edited decides 0.0715 > 0.05 of what an edit does"),
        ({"moved": 0.004}, "edits move predictions by 0.004 < 0.01 nats"),
        ({"two_step_r2": np.nan},
         "two_step_r2 is not known: too few tokens have two operators after them"),
        ({"int_r2": np.nan, "context": np.nan, "moved": np.nan, "unavailable": "nothing to edit"},
         "int_r2 is not known: nothing to edit; context is not known; moved is not known"),
        # Without a simplex nothing further is asked.
        ({**NOT_TESTED, "k": pd.NA, "unavailable": "its rows do not vary"},
         "kl_explained is not known: its rows do not vary"),
    ],
)  # fmt: skip
def test_each_limit_turns_a_cluster_down_and_says_why(changes: dict, reason: str) -> None:
    found = select({}, changes)
    assert found.selected[["cluster_id", "category", "k"]].values.tolist() == [[0, "F", 3]]
    assert found.verdicts["reason"][0].startswith("the model uses its 3 vertices: mixtures explain")
    assert found.verdicts["reason"][1] == reason
    assert found.funnel["remaining"].iloc[-1] == 1


def test_values_at_their_limits_pass_and_the_funnel_is_its_own() -> None:
    own = BeliefSettings(min_moved=0.06, max_context=0.01)
    at = {"kl_explained": 0.95, "prediction_r2": 0.95, "two_step_r2": 0.9, "int_r2": 0.9}
    found = select({}, at, {"kl_explained": 0.1, "moved": 0.01}, {"moved": 0.01}, belief=own)
    assert found.selected["cluster_id"].tolist() == [0, 1]
    assert found.funnel[["setting", "failed_here"]].values.tolist() == [
        ["min_latents", 0],
        ["", 0],
        ["min_kl_explained", 1],
        ["min_prediction_r2", 0],
        ["min_two_step_r2", 0],
        ["min_int_r2", 0],
        ["max_context", 0],
        ["min_moved", 1],
    ]


def test_manual_picks_are_taken_whatever_the_model_does() -> None:
    unknown = {**NOT_TESTED, "k": pd.NA, "unavailable": "why"}
    found = select(
        {}, {"int_r2": 0.1}, unknown, unknown, manual_clusters="4:1,2,3", manual_k="4:3=2"
    )
    selected = found.selected.set_index("cluster_id")
    assert selected["category"].to_dict() == {0: "F", 1: "M", 3: "M"}
    assert (selected["k"].to_dict(), selected["k_source"][3]) == ({0: 3, 1: 3, 3: 2}, "manual")
    reasons = found.verdicts["reason"].tolist()
    assert reasons[1].startswith("manual pick; by the evidence: edits act as mixtures")
    assert reasons[2].startswith("manual pick without a k; by the evidence: kl_explained is not")


EVIDENCE = pd.DataFrame(
    {"cluster_id": range(3), "null_cluster": False, "n_latents": 3, "coactivity": 2.0,
     "coactivity_q": 0.01, "simplex_fit": [0.9, 0.9, 0.5], "simplex_k": 4},
)  # fmt: skip


def by_mode(*clusters: dict) -> dict[str, Selection]:
    used = (table(*clusters), BeliefSettings())
    settings = SelectionSettings(), ControlSettings()
    return select_all(elbow_table([{}] * 3, 3), EVIDENCE, *settings, 3, used if clusters else None)


def test_verdicts_of_all_modes_stand_side_by_side() -> None:
    verdicts, funnel = verdict_tables(by_mode({}, {"moved": 0.0}, {"k": 2}), "functional")
    assert verdicts["selected"].tolist() == [True, False, True]
    own = verdicts[["k", "functional_category", "functional_k", "geometric_k"]]
    assert own.astype(object).where(own.notna(), None).values.tolist() == [
        [3, "F", 3, 4], [None, None, None, 4], [2, "F", 2, None],
    ]  # fmt: skip
    assert verdicts["functional_reason"].str.len().gt(0).all()
    assert list(dict.fromkeys(funnel["mode"])) == ["elbow", "geometric", "functional"]


def test_without_belief_its_columns_are_null_and_it_has_no_funnel() -> None:
    verdicts, funnel = verdict_tables(by_mode(), "geometric")
    columns = ["functional_category", "functional_k", "functional_reason"]
    assert verdicts[columns].isna().all(axis=None)
    assert list(dict.fromkeys(funnel["mode"])) == ["elbow", "geometric"]


def test_an_empty_selection_names_the_setting_and_every_other_mode() -> None:
    found = by_mode(*[{"int_r2": 0.2}] * 3)
    text = explain_none_of(found, "functional", (2, 3, 4))
    assert "The table functional_evidence has the numbers. Relax belief.min_int_r2, which" in text
    assert text.endswith(
        "Of the other modes, selection.mode = 'elbow' would select none, selection.mode = "
        "'geometric' would select 2."
    )
    unknown = explain_none_of(by_mode(*[{**NOT_TESTED}] * 3), "functional", (2, 3, 4))
    assert "Most have no statistics: the column unavailable says why." in unknown
