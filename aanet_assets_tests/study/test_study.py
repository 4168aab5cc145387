"""A study refuses wrong values when it is built, and says which and what is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aanet_assets.study.picks import parse_manual_clusters, parse_manual_k
from aanet_assets.study.settings import (
    AANetSettings,
    RowSettings,
)
from aanet_assets.study.study import Activations
from aanet_assets_tests.small import small_study


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"name": "My Study"}, "name", "match pattern"),
        ({"clustering": {"method": "dbscan"}}, "clustering.method", "'kmeans', 'k_subspaces'"),
        ({"clustering": {"cooccurrence": "cosine"}}, "clustering.cooccurrence", "'jaccard'"),
        ({"clustering": {"method": "labels"}}, "clustering", "labels_file goes with"),
        ({"clustering": {"labels_file": "x.npy"}}, "clustering", "labels_file goes with"),
        ({"ks": (1, 2)}, "ks.0", "greater than or equal to 2"),
        ({"ks": (3, 2)}, "ks", "ascending order"),
        ({"n_clusters": ()}, "n_clusters", "one or more"),
        ({"n_clusters": (7, 7)}, "n_clusters", "different numbers"),
        ({"rows": {"threshold": -1}}, "rows.threshold", "greater than or equal to 0"),
        ({"rows": {"threshhold": 1}}, "rows.threshhold", "Extra inputs are not permitted"),
        ({"vertices": {"distance": 0}}, "vertices.distance", "greater than 0"),
        ({"selection": {"min_recon_pct_decrease": 120}}, "selection.min_recon_pct_decrease",
         "less than or equal to 100"),
        ({"selection": {"manual_clusters": "7-3"}}, "selection.manual_clusters", "'512:23,45'"),
        ({"selection": {"manual_k": "7:3"}}, "selection.manual_k", "'512:261=3'"),
        ({"selection": {"manual_clusters": "9:0"}}, "", "names n_clusters 9"),
        ({"selection": {"manual_clusters": "7:7"}}, "", "ids run from 0 to 6"),
        ({"selection": {"manual_k": "7:1=5"}}, "", "manual_k of cluster 1 of 7 is 5"),
        ({"selection": {"manual_k": "7:1=3;7:1=4"}}, "selection.manual_k", "k 3 and k 4; give one"),
        ({"selection": {"mode": "guide"}}, "selection.mode",
         "this mode is called 'elbow' now: set mode='elbow'"),
        ({"selection": {"mode": "calibrated"}}, "selection.mode",
         "this mode is called 'geometric' now: set mode='geometric'"),
        ({"selection": {"mode": "both"}}, "selection.mode", "'elbow', 'geometric' or 'functional'"),
        ({"selection": {"mode": "functional"}}, "", "set belief=BeliefSettings(), or another mode"),
        ({"trust": {"nulls": 8}}, "", "trust is called controls now: set controls=ControlSettings"),
        ({"controls": {"near_share": 0}}, "controls.near_share", "greater than 0"),
        ({"selection": {"b_sd": float("inf")}}, "selection.b_sd", "finite number"),
        ({"sae": {"release": "r"}}, "sae", "either release and id, or directory"),
        ({"sae": {"release": "r", "id": "i", "directory": "d"}}, "sae", "either release and id"),
        ({"corpus": {}}, "corpus", "either dataset or files"),
        ({"refit": {"mode": "fresh"}}, "refit.mode", "'retrain' or 'stage1'"),
        ({"aanet": {"smoothing_window": 4}}, "aanet.smoothing_window", "equal to 8"),
        ({"device": "tpu"}, "device", "'cpu' or 'cuda'"),
        ({"dtype": "int8"}, "dtype", "'float32', 'bfloat16' or 'float16'"),
    ],
)  # fmt: skip
def test_wrong_values_are_named(changes: dict, field: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        small_study(**changes)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == field
    assert message in error["msg"]


def test_a_study_that_shares_activations_has_them_and_settings_of_its_own() -> None:
    small = small_study()
    other = small.sharing("other", n_clusters=(5,), ks=(2, 3))
    shared = Activations.model_fields.keys() - {"name"}
    assert other.model_dump(include=shared) == small.model_dump(include=shared)
    assert (other.name, other.activations_name, other.paths.root.name) == (
        "other",
        "small",
        "other",
    )
    assert (other.n_clusters, other.rows, other.aanet) == ((5,), RowSettings(), AANetSettings())
    assert other.sharing("third").activations_name == small.activations_name == "small"


def test_activations_alone_are_shared_as_those_of_a_study_are() -> None:
    small = small_study()
    shared = {field: getattr(small, field) for field in Activations.model_fields}
    activations = Activations(**shared)
    assert activations.sharing("other", ks=(2, 3)) == small.sharing("other", ks=(2, 3))
    alone = activations.alone
    assert (alone.name, alone.activations_name, alone.n_clusters) == ("small", "small", ())
    with pytest.raises(ValueError, match="shares the activations of 'small', and so its corpus"):
        activations.sharing("other", corpus=small.corpus)


def test_what_is_shared_is_not_set_again() -> None:
    message = r"'other' shares the activations of 'small', and so its cache, model: leave them out"
    with pytest.raises(ValueError, match=message):
        small_study().sharing("other", ks=(2, 3), model="gpt2", cache={"seq_len": 9})


def test_a_study_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        small_study().name = "other"


picks = st.dictionaries(st.integers(1, 999), st.lists(st.integers(0, 999), min_size=1), max_size=4)


@given(picks)
def test_manual_clusters_are_read_as_they_are_written(clusters: dict[int, list[int]]) -> None:
    text = ";".join(f"{n}:{','.join(map(str, ids))}" for n, ids in clusters.items())
    assert parse_manual_clusters(text) == {n: tuple(ids) for n, ids in clusters.items()}


def test_an_n_clusters_named_twice_has_the_picks_of_both() -> None:
    assert parse_manual_clusters("512:23; 512:45;7:1") == {512: (23, 45), 7: (1,)}


@given(st.dictionaries(st.tuples(st.integers(1, 999), st.integers(0, 999)), st.integers(2, 8)))
def test_manual_ks_are_read_as_they_are_written(ks: dict[tuple[int, int], int]) -> None:
    text = " ; ".join(f"{n}:{cluster}={k}" for (n, cluster), k in ks.items())
    assert parse_manual_k(text) == ks
