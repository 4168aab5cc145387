"""p-values are calibrated, q-values control, elbows are counted over replicates."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import kstest

from aanet_assets.science.selection.elbows import elbow
from aanet_assets.science.selection.evidence import (
    TYPES,
    elbow_spread,
    empirical_p,
    gather_evidence,
    q_values,
)
from aanet_assets.science.selection.shapes import active_together, coactivity
from aanet_assets.science.selection.verdicts import explain_none_of, select_all, select_by_table
from aanet_assets.study.settings import ControlSettings, SelectionSettings
from aanet_assets_tests.science.selection.elbow_tables import elbow_table


def test_p_values_of_chance_are_uniform_even_where_size_decides_the_value() -> None:
    def chance(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        sizes = rng.integers(2, 60, n).astype(float)
        return 3 * np.log(sizes) + rng.normal(size=n), sizes

    p = [
        empirical_p(*chance(rng, 1), *chance(rng, 1_000))[0]
        for rng in np.random.default_rng(0).spawn(100)
    ]
    assert kstest(p, "uniform").pvalue > 0.05


def test_p_is_one_plus_those_at_least_as_large_over_one_plus_all() -> None:
    p = empirical_p(np.array([2.0, 9.0, np.nan]), np.ones(3), np.array([1.0, 2, 3]), np.ones(3))
    np.testing.assert_allclose(p, [3 / 4, 1 / 4, np.nan])
    none = empirical_p(np.array([1.0]), np.ones(1), np.array([np.nan]), np.ones(1))
    assert np.isnan(none).all()


def test_a_value_stands_out_among_nulls_of_like_size() -> None:
    nulls, sizes = np.repeat([0.0, 10.0], 150), np.repeat([3.0, 30.0], 150)
    p = empirical_p(np.array([5.0, 5.0]), np.array([4.0, 25.0]), nulls, sizes)
    np.testing.assert_allclose(p, [1 / 301, 1])


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    # Sorted p times 4 / rank, made to rise.
    np.testing.assert_allclose(q_values(p), [0.04, np.nan, 0.16 / 3, 0.16 / 3, 0.5])
    assert np.isnan(q_values(np.array([np.nan]))).all()


def losses(curves: list[list[float]]) -> pd.DataFrame:
    rows = [
        (0, False, k, replicate, loss)
        for replicate, curve in enumerate(curves)
        for k, loss in enumerate(curve, start=2)
    ]
    columns = ["cluster_id", "null_cluster", "k", "replicate", "aanet_recon_loss"]
    return pd.DataFrame(rows, columns=columns)


def strength(ks: range, curve: list[float]) -> float:
    found = elbow(ks, curve).strength
    assert found is not None
    return found


def test_the_elbow_is_the_one_that_most_replicates_have() -> None:
    at_three, at_four = [9.0, 1.0, 0.9, 0.8, 0.7], [9.0, 6.0, 1.0, 0.9, 0.8]
    missing = [9.0, np.nan, 1.0, 0.9, 0.8]
    (row,) = elbow_spread(losses([at_three, at_four, at_three, missing])).to_dict("records")
    strengths = [strength(range(2, 7), curve) for curve in (at_three, at_four, at_three)]
    assert (row["replicates"], row["elbow_k"], row["elbow_ks"]) == (3, 3, [3, 3, 4])
    assert row["elbow_k_share"] == pytest.approx(2 / 3)
    assert row["elbow_strength"] == pytest.approx(np.mean(strengths))
    assert row["elbow_strength_sd"] == pytest.approx(np.std(strengths, ddof=1))
    (none,) = elbow_spread(losses([missing])).to_dict("records")
    assert none["replicates"] == 0
    assert none["elbow_k"] is None
    assert none["elbow_ks"] is None


CHANCE = pd.DataFrame({"n_latents": 4, "coactivity": 1 + np.arange(50) / 1000})
NONE = CHANCE.iloc[:0]


def shapes(coactivities: list[float], nulls: int = 50) -> pd.DataFrame:
    rows = [(i, False, 4, c, 1.0, k, f) for i, c in enumerate(coactivities)
            for k, f in ((2, 0.5), (3, 0.9 - i / 10))]  # fmt: skip
    rows += [(i, True, 4, 1 + i / 1000, 1.0, 2, 0.95) for i in range(nulls)]
    columns = ["cluster_id", "null_cluster", "n_latents", "coactivity", "interior", "k", "fit"]
    return pd.DataFrame(rows, columns=columns)


def test_one_row_per_cluster_with_its_best_fit() -> None:
    found = gather_evidence(shapes([2.0, 1.01, 2.0]), losses([[9.0, 1.0, 0.9]]), CHANCE)
    assert list(found.columns) == list(TYPES)
    real = found[~found["null_cluster"]]
    assert real["simplex_k"].tolist() == [3, 3, 3]
    np.testing.assert_allclose(real["simplex_fit"].astype(float), [0.9, 0.8, 0.7])
    assert real["elbow_k"].tolist()[0] == 3
    assert found[found["null_cluster"]]["coactivity_p"].isna().all()
    assert real["elbow_strength_p"].isna().all(), "there is no null cluster with an elbow"


def test_latents_that_exclude_one_another_stand_out_below_chance() -> None:
    """Forty latents of like activity: four fire in turns, four at once, the rest as they like."""
    rng = np.random.default_rng(0)
    turns = rng.integers(0, 12, 3_000)
    fires = rng.uniform(size=(3_000, 40)) < 1 / 12
    fires[:, :4] = turns[:, None] == np.arange(4)
    fires[:, 4:8] = (turns == 11)[:, None]

    def found(latents: np.ndarray) -> float:
        active = active_together(sp.csr_matrix(fires[:, latents].astype(np.float32)), np.ones(4))
        value = coactivity(active[fires[:, latents].any(axis=1)])
        assert value is not None
        return value

    groups = [np.arange(4), np.arange(4, 8), np.arange(8, 12)]
    chance = [found(rng.choice(np.arange(8, 40), 4, replace=False)) for _ in range(199)]
    own = shapes([found(group) for group in groups], nulls=0)
    none = pd.DataFrame({"n_latents": 4, "coactivity": chance})
    table = gather_evidence(own, losses([[9.0, 1.0, 0.9]]), none)
    exclusive, together, neither = table.to_dict("records")
    assert exclusive["coactivity"] == pytest.approx(1)
    assert (exclusive["coactivity_low_p"], exclusive["coactivity_p"]) == (1 / 200, 1)
    assert exclusive["coactivity_low_q"] == pytest.approx(3 / 200)
    assert (together["coactivity_low_p"], together["coactivity_p"]) == (1, 1 / 200)
    assert min(neither["coactivity_p"], neither["coactivity_low_p"]) > 0.05
    # A group is on either side of every chance group, or level with it.
    for row in (exclusive, together, neither):
        assert row["coactivity_p"] + row["coactivity_low_p"] >= 1 + 1 / 200


def test_geometric_selection_says_why_it_turned_each_cluster_down() -> None:
    known = gather_evidence(shapes([2.0, 1.01, 2.0]), losses([[9.0, 1.0, 0.9]]), CHANCE)
    selection = select_by_table("geometric", known, SelectionSettings(), ControlSettings(), 3)
    assert selection.selected[["cluster_id", "category", "k"]].values.tolist() == [[0, "S", 3]]
    reasons = selection.verdicts["reason"].tolist()
    assert "a simplex of 3 vertices fits (0.9)" in reasons[0]
    assert "no more than chance groups do: coactivity 1.01" in reasons[1]
    assert "the best, of 3 vertices, has 0.7 < 0.8" in reasons[2]
    assert selection.funnel["remaining"].tolist() == [3, 2, 1]


def test_manual_picks_are_taken_whatever_the_evidence() -> None:
    known = gather_evidence(shapes([2.0, 1.01, 2.0]), losses([[9.0, 1.0, 0.9]]), CHANCE)
    settings = SelectionSettings(manual_clusters="3:1", manual_k="3:1=2")
    selection = select_by_table("geometric", known, settings, ControlSettings(), 3)
    picked = selection.selected.set_index("cluster_id").loc[1]
    assert (picked["category"], picked["k"], picked["k_source"]) == ("M", 2, "manual")
    assert selection.verdicts["reason"][1].startswith("manual pick; by the evidence: its latents")


def test_what_is_not_there_is_null_and_says_why() -> None:
    """Two ks, losses that do not change, and no null cluster with an AANet."""
    table = shapes([2.0, 2.0], nulls=0)
    table.loc[table["cluster_id"] == 1, ["coactivity", "k", "fit"]] = np.nan
    two_ks = losses([[9.0, 1.0], [9.0, 2.0]])
    found = gather_evidence(table, two_ks, NONE).set_index("cluster_id")
    numbers = found.drop(
        columns=["unavailable", "null_cluster", "n_latents", "interior", "replicates"]
    )
    assert numbers.loc[[1]].isna().all(axis=None)
    known = ["coactivity", "simplex_k", "simplex_fit"]
    assert numbers.drop(columns=known).loc[[0]].isna().all(axis=None)
    assert found["unavailable"][0] == (
        "elbow: no replicate has finite losses, at three ks or more, that change; "
        "coactivity_p and coactivity_low_p: no null cluster has a coactivity; "
        "simplex_fit_p: no null cluster has a simplex_fit"
    )
    assert found["unavailable"][1] == (
        "coactivity: the cluster is active at no token; "
        "simplex_fit: its rows do not vary, or are too few; "
        "elbow: no AANets were trained on it; of null clusters the first n_clusters have some, "
        "where controls.replicates is more than 1"
    )


def test_losses_that_do_not_change_have_no_elbow() -> None:
    constant, falls = [1.0, 1.0, 1.0], [9.0, 1.0, 0.9]
    (row,) = elbow_spread(losses([constant, falls, constant])).to_dict("records")
    assert (row["replicates"], row["elbow_ks"], row["elbow_k_share"]) == (1, [3], None)
    found = gather_evidence(shapes([2.0]), losses([constant]), CHANCE)
    nothing = ["elbow_k", "elbow_k_share", "elbow_strength", "elbow_ks"]
    assert found.loc[[0], nothing].isna().all(axis=None)
    assert (
        "no replicate has finite losses, at three ks or more, that change"
        in found["unavailable"][0]
    )


def test_one_replicate_has_no_share_and_the_reason_is_given() -> None:
    found = gather_evidence(shapes([2.0], nulls=0), losses([[9.0, 1.0, 0.9]]), CHANCE)
    assert (found.loc[0, "elbow_k"], found.loc[0, "replicates"]) == (3, 1)
    assert found.loc[[0], ["elbow_k_share", "elbow_strength_sd"]].isna().all(axis=None)
    said = found["unavailable"][0]
    assert "elbow_k_share: one replicate agrees with none but itself" in said
    assert "elbow_strength_sd: one replicate has no spread" in said


def test_strengths_of_noise_are_in_no_mean_and_said() -> None:
    falls, noise = [9.0, 1.0, 0.9, 0.8], [2.001e-5, 1.849e-5, 4.23e-5, 2.003e-5]
    table = losses([falls, noise, [9.0, 2.0, 0.9, 0.8]])
    (row,) = elbow_spread(table).to_dict("records")
    strengths = [strength(range(2, 6), curve) for curve in (falls, [9.0, 2.0, 0.9, 0.8])]
    assert row["elbow_strength"] == pytest.approx(np.mean(strengths))
    assert row["elbow_strength_sd"] == pytest.approx(np.std(strengths, ddof=1))
    # Where its elbow lies is what the formula gives.
    assert row["elbow_ks"] == [3, 3, 4]
    found = gather_evidence(shapes([2.0], nulls=0), table, CHANCE)
    assert "elbow_strength: 1 of 3 replicates are left out" in found["unavailable"][0]
    alone = gather_evidence(shapes([2.0], nulls=0), losses([noise]), CHANCE)
    nothing = ["elbow_strength", "elbow_strength_sd", "elbow_strength_p"]
    assert alone.loc[[0], nothing].isna().all(axis=None)
    assert "elbow_strength: 1 of 1 replicates are left out" in alone["unavailable"][0]


def test_no_verdict_says_that_a_number_is_less_than_itself() -> None:
    known = gather_evidence(shapes([2.0, 1.01, 2.0]), losses([[9.0, 1.0, 0.9]]), CHANCE)
    known.loc[known["cluster_id"] == 0, "simplex_fit"] = 0.79996
    selection = select_by_table(
        "geometric", known, SelectionSettings(), ControlSettings(min_fit=0.8), 3
    )
    assert "has 0.79996 < 0.8" in selection.verdicts["reason"][0]
    limits = ControlSettings(min_fit=0.123456789)
    steps = select_by_table("geometric", known, SelectionSettings(), limits, 3).funnel["filter"]
    assert "a simplex fits (>= 0.123456789)" in steps.tolist()


def test_an_empty_selection_names_the_setting_and_the_other_mode() -> None:
    known = gather_evidence(shapes([2.0, 1.01, 2.0]), losses([[9.0, 1.0, 0.9]]), CHANCE)
    metrics = elbow_table([{}, {}, {}], 3)
    strict = SelectionSettings(mode="geometric"), ControlSettings(min_fit=0.99)
    text = explain_none_of(select_all(metrics, known, *strict, 3), "geometric", (2, 3, 4))
    assert "of 3, 0 fail 'n_latents >= 2', 1 fail" in text
    assert "Relax controls.min_fit, which turns down the most." in text
    assert "selection.manual_clusters = '3:0,1'" in text
    assert "Of the other modes, selection.mode = 'elbow' would select none." in text
    both = select_all(metrics, known, SelectionSettings(), ControlSettings(), 3)
    assert "selection.mode = 'geometric' would select 1." in explain_none_of(both, "elbow", (2, 3))
    assert "Ks has the 2 values 2, 3" in explain_none_of(both, "elbow", (2, 3))
