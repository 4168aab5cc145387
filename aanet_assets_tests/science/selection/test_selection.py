"""Selection against a slow restatement of the rules, cluster by cluster."""

import statistics

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aanet_assets.science.selection.filters import explain_none, select_clusters
from aanet_assets.study.settings import SelectionSettings

strength = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.7, 1.5, 4.0])
cluster = st.fixed_dictionaries(
    {
        "n_latents": st.integers(1, 4),
        "recon_k": st.sampled_from([3, 3, 4, 5]),
        "arch_k": st.sampled_from([3, 3, 4, 6]),
        "recon_strength": strength,
        "arch_strength": strength,
        "recon_pct": st.sampled_from([10.0, 20.0, 90.0, 95.0]),
        "arch_pct": st.sampled_from([15.0, 40.0, 60.0]),
        "recon_mono": st.sampled_from([True, True, True, False]),
        "arch_mono": st.sampled_from([True, True, True, False]),
        "has_elbows": st.sampled_from([True, True, True, True, False]),
    }
)
GOOD = {"n_latents": 3, "recon_k": 3, "arch_k": 4, "recon_strength": 0.3, "arch_strength": 0.3,
        "recon_pct": 90.0, "arch_pct": 90.0, "recon_mono": True, "arch_mono": True,
        "has_elbows": True}  # fmt: skip


def table_of(clusters: list[dict]) -> pd.DataFrame:
    rows = []
    for cluster_id, c in enumerate(clusters):
        known = c["has_elbows"]
        for k in (2, 3, 4):
            rows.append(
                {
                    "n_clusters_total": len(clusters),
                    "cluster_id": cluster_id,
                    "n_latents": c["n_latents"],
                    "aanet_k": k,
                    "aanet_status": "ok" if known else "empty",
                    "aanet_reason": "" if known else "no token",
                    "aanet_recon_loss": 1.0 / k if known else None,
                    "aanet_archetypal_loss": 1.0 / k if known else None,
                    "aanet_recon_loss_elbow_k": c["recon_k"] if known else None,
                    "aanet_recon_loss_elbow_strength": c["recon_strength"] if known else None,
                    "recon_pct_decrease": c["recon_pct"] if known else None,
                    "recon_is_monotonic": c["recon_mono"] if known else None,
                    "aanet_archetypal_loss_elbow_k": c["arch_k"] if known else None,
                    "aanet_archetypal_loss_elbow_strength": c["arch_strength"] if known else None,
                    "arch_pct_decrease": c["arch_pct"] if known else None,
                    "arch_is_monotonic": c["arch_mono"] if known else None,
                    "k_differential": abs(c["recon_k"] - c["arch_k"]) if known else None,
                }
            )
    return pd.DataFrame(rows)


def passes(c: dict) -> bool:
    return (
        c["has_elbows"]
        and c["n_latents"] >= 2
        and c["recon_mono"]
        and c["arch_mono"]
        and c["recon_pct"] >= 20
        and c["arch_pct"] >= 20
        and abs(c["recon_k"] - c["arch_k"]) <= 1
    )


def slowly(clusters: list[dict]) -> dict[int, tuple[str, int]]:
    """Category and k of each selected cluster, by the rules as the guide words them."""
    good = [c for c in clusters if passes(c)]
    if len(good) < 2:
        return {}
    recon, arch = [c["recon_strength"] for c in good], [c["arch_strength"] for c in good]
    rm, rs = statistics.mean(recon), statistics.stdev(recon)
    am, asd = statistics.mean(arch), statistics.stdev(arch)
    found = {}
    for cluster_id, c in enumerate(clusters):
        if not passes(c):
            continue
        r, a = c["recon_strength"], c["arch_strength"]
        holds = {
            "A": r > rm + rs and a > am + asd,
            "D": c["recon_k"] == c["arch_k"] and r > rm and a > am,
            "B": r > rm + 3 * rs,
            "C": a > am + 3 * asd,
        }
        category = next((name for name, true in holds.items() if true), None)
        if category:
            found[cluster_id] = (category, c["arch_k"])
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(cluster, min_size=1, max_size=30))
def test_the_elbow_modes_rules_are_the_guides(clusters: list[dict]) -> None:
    selection = select_clusters(table_of(clusters), SelectionSettings(), len(clusters))
    found = {
        row["cluster_id"]: (row["category"], row["k"])
        for row in selection.selected.to_dict("records")
    }
    assert found == slowly(clusters)
    assert set(selection.selected["k_source"]) <= {"archetypal elbow"}
    verdicts = selection.verdicts.set_index("cluster_id")
    assert len(verdicts) == len(clusters)
    assert set(verdicts.index[verdicts["selected"]]) == set(found)
    assert (verdicts["reason"].str.len() > 0).all()
    funnel = selection.funnel
    assert funnel["remaining"].iloc[-1] == len(found)
    assert funnel["remaining"].iloc[-2] == sum(map(passes, clusters))
    assert (funnel["failed_cumulative"] + funnel["remaining"] == len(clusters)).all()
    assert (funnel["failed_cumulative"].diff().dropna() >= 0).all()
    if not found:
        assert "No cluster of n_clusters" in explain_none(selection)


def reason(change: dict, **more) -> str:
    clusters = [GOOD, GOOD | change, GOOD]
    verdicts = select_clusters(table_of(clusters), SelectionSettings(**more), 3).verdicts
    return verdicts["reason"].iloc[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_latents": 1}, "n_latents 1 < 2"),
        ({"recon_mono": False}, "recon loss rises before its elbow"),
        ({"arch_mono": False}, "archetypal loss rises before its elbow"),
        ({"recon_pct": 12.5}, "12.5"),
        ({"arch_pct": 7.5}, "7.5"),
        ({"arch_k": 6}, "k_differential 3 > 1"),
        ({"has_elbows": False}, "elbow metrics missing"),
        ({}, "passes every filter, reaches no category"),
    ],
)
def test_every_rejection_says_why(change: dict, words: str) -> None:
    assert words in reason(change)


def test_all_failed_filters_are_named() -> None:
    words = reason({"n_latents": 1, "arch_k": 8})
    assert "n_latents 1 < 2" in words
    assert "k_differential 5 > 1" in words


def test_priority_a_before_d_before_b_before_c() -> None:
    many = [GOOD] * 40
    both = GOOD | {"arch_k": 3, "recon_strength": 5.0, "arch_strength": 5.0}
    middling = GOOD | {"arch_k": 3, "recon_strength": 0.8, "arch_strength": 0.8}
    recon = GOOD | {"recon_strength": 5.0}
    arch = GOOD | {"arch_strength": 5.0}
    selected = select_clusters(
        table_of([*many, both, middling, recon, arch]), SelectionSettings(), 44
    ).selected
    assert selected.set_index("cluster_id")["category"].to_dict() == {
        40: "A", 41: "D", 42: "B", 43: "C",
    }  # fmt: skip


def test_thresholds_are_settings() -> None:
    clusters = [GOOD | {"recon_strength": s} for s in (0.1, 0.2, 0.3, 0.4)]
    lenient = SelectionSettings(b_sd=0.0, a_sd=9.0, d_sd=9.0)
    selected = select_clusters(table_of(clusters), lenient, 4).selected
    assert list(selected["cluster_id"]) == [2, 3]
    assert set(selected["category"]) == {"B"}


def test_manual_picks_override_and_manual_k_too() -> None:
    clusters = [GOOD | {"n_latents": 1}, GOOD, GOOD | {"has_elbows": False},
                GOOD | {"has_elbows": False}]  # fmt: skip
    picks = SelectionSettings(
        manual_clusters="4:0,2,3;9:1", manual_k="4:2=3", k_from="reconstruction"
    )
    selection = select_clusters(table_of(clusters), picks, 4)
    rows = selection.selected.set_index("cluster_id")[["category", "k", "k_source"]]
    assert list(rows.index) == [0, 2]
    assert rows.values.tolist() == [["M", 3, "reconstruction elbow"], ["M", 3, "manual"]]
    assert "manual pick without a k" in selection.verdicts["reason"].iloc[3]


def test_a_single_passing_cluster_has_no_standard_deviation() -> None:
    selection = select_clusters(
        table_of([GOOD, GOOD | {"n_latents": 1}]), SelectionSettings(a_sd=-9, d_sd=-9), 2
    )
    assert selection.selected.empty
    assert "no other cluster does" in selection.verdicts["reason"].iloc[0]
    assert "pick by hand" in explain_none(selection)


def test_a_table_of_another_n_clusters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"holds n_clusters \[1\]; it must hold 2 alone"):
        select_clusters(table_of([GOOD]), SelectionSettings(), 2)
