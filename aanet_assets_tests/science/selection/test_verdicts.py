"""What a selection says: limits, the words of every verdict, the funnel, picks, and none at all."""

import math

import pandas as pd
import pytest

from aanet_assets.science.selection.filters import Selection, explain_none, select_clusters
from aanet_assets.study.settings import SelectionSettings
from aanet_assets_tests.science.selection.elbow_tables import NO_ELBOW, elbow_table

RECON, ARCH = "aanet_recon_loss_elbow_strength", "aanet_archetypal_loss_elbow_strength"


def strengths(*pairs: tuple[float, float], apart: int = 0) -> list[dict]:
    return [{RECON: recon, ARCH: arch, "k_differential": apart} for recon, arch in pairs]


def select(elbows: list[dict], n: int | None = None, **settings: object) -> Selection:
    n_clusters = n or len(elbows)
    return select_clusters(
        elbow_table(elbows, n_clusters), SelectionSettings.model_validate(settings), n_clusters
    )


def categories(selection: Selection) -> dict[int, str]:
    selected = selection.selected
    return dict(zip(selected["cluster_id"], selected["category"], strict=True))


def reasons(selection: Selection) -> list[str]:
    return selection.verdicts["reason"].tolist()


BACKGROUND = strengths(*[(0.30, 0.30), (0.31, 0.29), (0.29, 0.31), (0.30, 0.30)] * 6, apart=1)


@pytest.mark.parametrize(
    ("recon", "arch", "apart", "category"),
    [
        (0.9, 0.9, 0, "A"),  # fits A, B, C and D
        (0.9, 0.9, 1, "A"),  # fits A, B and C
        (0.9, 0.302, 0, "D"),  # fits D and B
        (0.302, 0.9, 0, "D"),  # fits D and C
        (0.9, 0.2, 0, "B"),
        (0.2, 0.9, 0, "C"),
        (0.302, 0.302, 0, "D"),
        (0.302, 0.302, 1, None),
        (0.2, 0.2, 0, None),
    ],
)
def test_priority_is_a_then_d_then_b_then_c(
    recon: float, arch: float, apart: int, category: str | None
) -> None:
    last = len(BACKGROUND)
    selection = select([*BACKGROUND, *strengths((recon, arch), apart=apart)])
    assert categories(selection).get(last) == category


def test_equal_strengths_are_not_above_their_mean() -> None:
    selection = select(strengths(*[(0.1, 0.7)] * 3))
    assert selection.threshold["recon_sd"] == 0
    assert len(selection.selected) == 0


def test_thresholds_use_passing_clusters_and_ddof_one() -> None:
    left_out = {"n_latents": 1, RECON: 9.0, ARCH: 9.0}
    threshold = select([*strengths((0.1, 0.4), (0.3, 0.8)), left_out]).threshold
    assert threshold["n_passing"] == 2
    assert threshold["recon_mean"] == pytest.approx(0.2)
    assert threshold["recon_sd"] == pytest.approx(0.2 / math.sqrt(2))
    assert threshold["a_recon"] == pytest.approx(0.2 + 0.2 / math.sqrt(2))
    assert threshold["c_arch"] == pytest.approx(0.6 + 3 * 0.4 / math.sqrt(2))


def test_every_failed_filter_is_named() -> None:
    bad = {
        "n_latents": 1,
        "recon_is_monotonic": False,
        "arch_is_monotonic": False,
        "recon_pct_decrease": 12.34,
        "arch_pct_decrease": 0.0,
        "k_differential": 3,
    }
    selection = select([bad, *strengths((0.3, 0.3), (0.4, 0.4))])
    assert reasons(selection)[0] == (
        "n_latents 1 < 2; recon loss rises before its elbow; archetypal loss rises before its "
        "elbow; recon loss falls by 12.34% < 20%; archetypal loss falls by 0% < 20%; "
        "k_differential 3 > 1"
    )
    assert selection.funnel["filter"].tolist() == [
        "n_latents >= 2",
        "has elbow metrics",
        "recon loss does not rise before its elbow",
        "archetypal loss does not rise before its elbow",
        "recon loss falls by >= 20%",
        "archetypal loss falls by >= 20%",
        "k_differential <= 1",
        "reaches a category",
    ]
    assert selection.funnel["failed_here"].tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert selection.funnel["failed_cumulative"].tolist() == [1, 1, 1, 1, 1, 1, 1, 2]
    assert selection.funnel["remaining"].tolist() == [2, 2, 2, 2, 2, 2, 2, 1]


def test_filters_that_are_off_do_not_show() -> None:
    selection = select([{"recon_is_monotonic": False}], recon_monotonic=False, arch_monotonic=False)
    assert not selection.funnel["filter"].str.contains("rise").any()
    assert selection.threshold["n_passing"] == 1


def test_a_missing_elbow_is_explained_by_the_statuses() -> None:
    table = elbow_table([NO_ELBOW, NO_ELBOW, NO_ELBOW, NO_ELBOW], 4)
    table.loc[table["cluster_id"] == 0, "aanet_status"] = "insufficient_samples"
    failed = (table["cluster_id"] == 1) & table["aanet_k"].isin([3, 7])
    table.loc[failed, "aanet_status"] = "failed"
    table = table[(table["cluster_id"] != 3) | (table["aanet_k"] < 4)]
    found = reasons(select_clusters(table, SelectionSettings(), 4))
    assert found == [
        "elbow metrics missing: insufficient_samples",
        "elbow metrics missing: failed at k = 3, failed at k = 7",
        "elbow metrics missing: a loss is missing or not finite",
        "elbow metrics missing: fewer than three ks",
    ]


def test_reasons_of_the_selected_and_of_those_short_of_a_category() -> None:
    found = select([*BACKGROUND, *strengths((0.9, 0.9), (0.302, 0.303))])
    assert reasons(found)[24].startswith("both strengths stand out: recon 0.9 > 0.4")
    assert reasons(found)[25].startswith(
        "passes every filter, reaches no category: recon strength 0.302 (A > 0.4"
    )
    assert reasons(found)[25].endswith("k_differential 0 (D needs 0)")
    d = select(strengths((0.2, 0.2), (0.3, 0.3)))
    assert reasons(d)[1].startswith("the elbows agree and both strengths are high: recon 0.3 > ")
    b_and_c = select([*BACKGROUND, *strengths((0.9, 0.2), (0.2, 0.9), apart=1)])
    assert reasons(b_and_c)[24].startswith("recon strength alone stands out: 0.9 > ")
    assert reasons(b_and_c)[25].startswith("archetypal strength alone stands out: 0.9 > ")


def test_manual_picks_are_taken_whatever_the_filters_say() -> None:
    elbows = [
        {"n_latents": 1, "aanet_archetypal_loss_elbow_k": 5},
        *strengths((0.2, 0.2), (0.5, 0.5)),
        NO_ELBOW,
        NO_ELBOW,
    ]
    selection = select(elbows, 5, manual_clusters="5:0,2,3,4;99:1", manual_k="5:3=6;5:1=7;99:0=2")
    selected = selection.selected.set_index("cluster_id")
    assert selected["category"].to_dict() == {0: "M", 2: "M", 3: "M"}
    assert selected["k"].to_dict() == {0: 5, 2: 3, 3: 6}
    assert selected["k_source"].to_dict() == {
        0: "archetypal elbow",
        2: "archetypal elbow",
        3: "manual",
    }
    assert selected[RECON].isna().tolist() == [False, False, True]
    assert reasons(selection)[0] == "manual pick; by the rules: n_latents 1 < 2"
    assert reasons(selection)[2].startswith("manual pick; by the rules: category D, the elbows")
    assert reasons(selection)[4].startswith(
        "manual pick without a k: no elbow, and none in manual_k; by the rules: elbow metrics"
    )
    assert not selection.verdicts["selected"].iloc[4]
    # A pick changes neither the funnel nor the limits.
    plain = select(elbows, 5)
    pd.testing.assert_frame_equal(selection.funnel, plain.funnel)
    assert selection.threshold == plain.threshold


def test_k_comes_from_manual_k_else_from_the_chosen_elbow() -> None:
    elbows = strengths((0.2, 0.2), (0.5, 0.5), (0.5, 0.5))
    for e in elbows:
        e.update(aanet_recon_loss_elbow_k=4, aanet_archetypal_loss_elbow_k=5, k_differential=0)
    by_arch = select(elbows, manual_k="3:2=8").selected
    assert by_arch["k"].tolist() == [5, 8]
    assert by_arch["k_source"].tolist() == ["archetypal elbow", "manual"]
    by_recon = select(elbows, k_from="reconstruction").selected
    assert by_recon["k"].tolist() == [4, 4]
    assert by_recon["k_source"].tolist() == ["reconstruction elbow"] * 2


def test_a_pick_outside_the_table() -> None:
    with pytest.raises(ValueError, match="manual_clusters picks cluster 6 of n_clusters 7"):
        select([{}, {}], 7, manual_clusters="7:1,6")


def test_an_empty_selection_is_explained() -> None:
    short = explain_none(select(strengths(*[(0.1, 0.7)] * 3)))
    assert "3 of 3 pass the quality filters. None of them reaches a category" in short
    assert "largest recon strength is 0.1 (A > 0.1" in short
    filtered = explain_none(select([{"recon_pct_decrease": 5.0}] * 3 + [{"n_latents": 1}]))
    assert "0 of 4 pass" in filtered
    assert "1 of 'n_latents >= 2', 3 of 'recon loss falls by >= 20%'" in filtered
    assert "Relax selection.min_recon_pct_decrease, which turns down the most." in filtered
    assert "selection.manual_clusters = '4:0,1'" in filtered
    untrained = explain_none(select([NO_ELBOW] * 3))
    assert "Most have no elbow metrics: aanet_status and aanet_reason" in untrained
    assert "the table holds none" in explain_none(select([], 3))


NOISE = {RECON: 0.3, ARCH: 710.0, "arch_is_monotonic": False}


def test_a_strength_of_noise_moves_no_limit_and_reaches_no_category() -> None:
    falling = strengths((0.2, 0.2), (0.3, 0.3), (0.4, 0.45), apart=1)
    noisy = select([*falling, NOISE], arch_monotonic=False, c_sd=1.0)
    without = select(falling, arch_monotonic=False, c_sd=1.0)
    assert noisy.threshold["n_passing"] == 4
    for name in ("arch_mean", "arch_sd", "arch_max", "a_arch", "c_arch", "d_arch"):
        assert noisy.threshold[name] == without.threshold[name], name
    # Its reconstruction strength, which falls, counts as any other does.
    assert noisy.threshold["recon_mean"] == pytest.approx(0.3)
    assert categories(noisy) == {2: "A"}
    assert reasons(noisy)[3].endswith(
        "the archetypal strength 710 counts for nothing: that of a falling loss is at most 0.70711"
    )
    by_recon = select([*falling, {**NOISE, RECON: 0.9}], arch_monotonic=False, b_sd=1.0)
    assert categories(by_recon)[3] == "B"
    # The table of the selected carries what the formula gave.
    assert by_recon.selected.set_index("cluster_id").loc[3, ARCH] == 710


def test_the_same_of_the_reconstruction_loss() -> None:
    noise = {RECON: 12.0, ARCH: 0.3, "recon_is_monotonic": False}
    found = select(
        [*strengths((0.2, 0.2), (0.3, 0.3), (0.4, 0.4), apart=1), noise], recon_monotonic=False
    )
    assert found.threshold["recon_max"] == 0.4
    assert 3 not in categories(found)
    assert "the recon strength 12 counts for nothing" in reasons(found)[3]


def test_where_monotony_is_asked_for_every_strength_counts() -> None:
    rises_later = {RECON: 8.75, ARCH: 6.0}
    found = select([*BACKGROUND, rises_later], arch_monotonic=True)
    assert found.threshold["recon_max"] == 8.75
    assert categories(found)[24] == "A"
    # Each loss by its own setting.
    half = select([*BACKGROUND, rises_later], arch_monotonic=False)
    assert (half.threshold["recon_max"], half.threshold["arch_max"]) == (8.75, 0.31)
    assert categories(half)[24] == "B"


def test_where_one_strength_counts_there_is_no_limit_of_that_loss() -> None:
    found = select(
        [{**NOISE, RECON: 0.2}, {**NOISE, RECON: 0.6}, *strengths((0.3, 0.3))],
        arch_monotonic=False,
        b_sd=0.5,
    )
    assert found.threshold["arch_mean"] is None
    assert found.threshold["c_arch"] is None
    assert categories(found) == {1: "B"}
    assert "archetypal strength 0.3 (A > none, C > none" in reasons(found)[2]
    nothing = select([NOISE, NOISE], arch_monotonic=False)
    assert "the largest archetypal strength none" in explain_none(nothing)


def test_no_reason_says_that_a_number_is_less_than_itself() -> None:
    short = [{"recon_pct_decrease": 19.9999999}, {"arch_pct_decrease": 20 - 1e-12}, {}, {}]
    found = reasons(select(short))
    assert found[0] == "recon loss falls by 19.9999999% < 20%"
    assert found[1] == "archetypal loss falls by 19.999999999999% < 20%"
    name = select(short, min_recon_pct_decrease=12.3456789).funnel["filter"].iloc[4]
    assert name == "recon loss falls by >= 12.3456789%"


def test_what_the_funnel_counts_adds_up() -> None:
    bad = [{"n_latents": 1, "k_differential": 4}, {"k_differential": 4}, {"n_latents": 1}, {}]
    funnel = select(bad).funnel.set_index("setting")
    failed = funnel.loc[["min_latents", "max_k_differential"], ["failed_here", "remaining"]]
    assert failed.values.tolist() == [[2, 2], [1, 1]]
    assert funnel["failed_here"].cumsum().tolist() == funnel["failed_cumulative"].tolist()
