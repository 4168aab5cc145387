"""What the page holds of the functional evidence is what the tables say."""

import json

import numpy as np
import pandas as pd
import pytest

from aanet_assets.review.functional import NULLS, TOKENS, TOKENS_OF_OTHERS, functional
from aanet_assets.science.selection.rules import FUNCTIONAL, MODES
from aanet_assets_tests.review.asked_tables import KS, NONE, STATISTICS, asked_tables

ASKED = asked_tables()
FOUND = functional(ASKED, {0})


def real(table: pd.DataFrame, cluster_id: int) -> pd.Series:
    return table[(table["cluster_id"] == cluster_id) & ~table["null_cluster"]].iloc[0]


def test_every_statistic_of_the_verdict_has_its_p_and_q_or_says_why_not() -> None:
    assert list(FOUND["clusters"]) == list(range(NONE + 1))
    for cluster_id, own in FOUND["clusters"].items():
        row = real(ASKED.evidence, cluster_id)
        assert set(own["statistics"]) == set(STATISTICS)
        for name, said in own["statistics"].items():
            assert bool(said["reason"]) == pd.isna(row[name]), (cluster_id, name)
            for letter in "pq":
                expected = row.get(f"{name}_{letter}", np.nan)
                assert said[letter] == (
                    None if pd.isna(expected) else pytest.approx(expected, rel=1e-3)
                )
    own = FOUND["clusters"][0]["statistics"]
    assert own["kl_explained"]["p"] is not None
    assert own["context"]["noP"] == "its limit alone is asked"
    two_steps = FOUND["clusters"][1]["statistics"]["two_step_r2"]
    assert two_steps["reason"] == "fewer than 100 pairs of steps have operators"
    few = functional(asked_tables(nulls=20 - 1), set())["clusters"][0]["statistics"]["int_r2"]
    assert (few["p"], few["noP"]) == (None, "19 null clusters, and p-values need 20")


def test_statistics_of_null_clusters_are_those_of_the_table() -> None:
    null = ASKED.evidence[ASKED.evidence["null_cluster"]]
    assert sorted(FOUND["nulls"]["n_latents"]) == sorted(null["n_latents"])
    for name in STATISTICS:
        np.testing.assert_allclose(sorted(FOUND["nulls"][name]), sorted(null[name]), rtol=1e-3)
    pairs = dict(zip(FOUND["nulls"]["int_r2"], FOUND["nulls"]["moved"], strict=True))
    first = null.iloc[7]
    assert pairs[float(f"{first['int_r2']:.4g}")] == pytest.approx(first["moved"], rel=1e-3)
    many = pd.concat([ASKED.evidence, *[null] * 12])
    thinned = functional(ASKED._replace(evidence=many), set())["nulls"]
    assert {len(values) for values in thinned.values()} == {NULLS}
    assert (thinned["n_latents"][0], thinned["n_latents"][-1]) == (4, 40)


def test_tokens_and_doses_are_those_of_the_tables() -> None:
    for cluster_id, k in enumerate(KS):
        own = FOUND["clusters"][cluster_id]
        tokens = ASKED.tokens[ASKED.tokens["cluster_id"] == cluster_id]
        count = TOKENS if cluster_id == 0 else TOKENS_OF_OTHERS
        points, p = np.array(own["tokens"]["points"]), np.array(own["tokens"]["p"])
        assert points.shape == (count, k)
        for found, name, units in ((points, "coordinates", 1_000), (p, "probabilities", 10_000)):
            expected = np.stack(tokens[name].tolist())[:count]
            np.testing.assert_allclose(found / units, expected, atol=0.51 / units)
        assert [dose["token"] for dose in own["doses"]] == ["␣the", "↵", "x" * 40]
        assert [dose["others"] for dose in own["doses"]] == [0, 53, 0]
        for rank, dose in enumerate(own["doses"]):
            table = ASKED.doses[(ASKED.doses["cluster_id"] == cluster_id)
                                & (ASKED.doses["rank"] == rank)]  # fmt: skip
            assert (dose["from"], dose["to"]) == (rank % k, (rank + 1) % k)
            for name in ("coordinate", "probability", "low", "high", "mixture"):
                np.testing.assert_allclose(dose[name], table[name], rtol=1e-3)


def test_chains_lie_from_row_to_column_with_the_truth_where_it_is_known() -> None:
    for row in ASKED.chains.to_dict("records"):
        chain = FOUND["clusters"][row["cluster_id"]]["chain"]
        i, j = row["from_vertex"], row["to_vertex"]
        for name in ("probability", "low", "high"):
            assert chain[name][i][j] == pytest.approx(row[name], rel=1e-3)
        if row["cluster_id"] == 0:
            assert chain["true"][i][j] == row["true_probability"]
        else:
            assert chain["true"] is None


def test_what_is_missing_says_why() -> None:
    six, none = FOUND["clusters"][3], FOUND["clusters"][NONE]
    assert six["chain"] is None
    assert six["chainReason"] == "no token that follows one vertex has an operator"
    assert (six["steering"], six["steeringReason"]) == (None, "4 tokens for 6 vertices")
    assert FOUND["clusters"][0]["steering"] == {
        "reached": 0.98, "true_reached": 0.9877, "random": 0.1, "random_in_span": -0.5,
        "other_cluster": 0.2, "removed": -12.5,
    }  # fmt: skip
    assert FOUND["clusters"][1]["steering"]["other_cluster"] is None
    assert (none["doses"], none["chain"], none["steering"]) == ([], None, None)
    said = [none[f"{name}Reason"] for name in ("tokens", "chain", "steering")]
    said += [own["reason"] for own in none["statistics"].values()]
    assert set(said) == {"no simplex: its rows do not vary"}
    json.dumps(FOUND, allow_nan=False)


def test_a_rule_that_is_gone_has_no_statistic(monkeypatch: pytest.MonkeyPatch) -> None:
    mode = MODES[FUNCTIONAL]
    fewer = tuple(rule for rule in mode.rules if rule.column != "context")
    monkeypatch.setitem(MODES, FUNCTIONAL, mode._replace(rules=fewer))
    found = functional(ASKED, set())
    assert "context" not in found["nulls"]
    assert set(found["clusters"][0]["statistics"]) == set(STATISTICS) - {"context"}
