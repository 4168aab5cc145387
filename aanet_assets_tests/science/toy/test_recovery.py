"""Recovery on planted codes, where the right numbers are known beforehand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from aanet_assets.science.toy.picture import write_recovery_plot
from aanet_assets.science.toy.process import UNION7, ProductProcess, UnionProcess, mess, tom_quantum
from aanet_assets.science.toy.recovery import COLUMN_TYPES, recover, summary
from aanet_assets.science.toy.scores import heldout_r2, token_r2, vertex_beliefs

LETTERS = {"train": UNION7.sample(2_500, 16, seed=0), "heldout": UNION7.sample(2_500, 16, seed=1)}
CLUSTER_OF_COMPONENT = np.array([4, 2, 0, 6, 1, 3, 5])
"""Latents 4i..4i+3 carry component i; their cluster has another number."""
LABELS = np.repeat(CLUSTER_OF_COMPONENT, 4)


def planted(letters):
    """Codes that are the exact belief of the component that speaks, in latents of its own."""
    found = UNION7.beliefs(letters)
    component, belief = found.component.ravel(), found.belief.reshape(-1, 4)
    codes = np.zeros((len(component), 7, 4))
    codes[np.arange(len(component)), component] = belief
    return csr_matrix(codes.reshape(len(component), 28))


def codes_of(codes):
    """What gives some latents' codes."""
    return lambda latents: codes[:, latents]


def elbows(n_clusters=7):
    """A consolidated table with two ks, where cluster c has elbows c and c + 1."""
    clusters = np.repeat(np.arange(n_clusters), 2)
    return pd.DataFrame(
        {
            "cluster_id": clusters,
            "aanet_k": [2, 3] * n_clusters,
            "aanet_recon_loss_elbow_k": pd.array(clusters, dtype="Int64"),
            "aanet_archetypal_loss_elbow_k": pd.array(clusters + 1, dtype="Int64"),
        }
    )


def true_coordinates(cluster_id, k):
    """Barycentric coordinates that are the exact belief, where the component speaks."""
    component = int(np.flatnonzero(cluster_id == CLUSTER_OF_COMPONENT)[0])
    found = UNION7.beliefs(LETTERS["heldout"])
    tokens = np.flatnonzero(found.component.ravel() == component)
    return tokens, found.belief.reshape(-1, 4)[tokens, :k]


def recovered(codes_train=None, codes_heldout=None, labels=LABELS, table=None, found=None):
    return recover(
        UNION7.targets(LETTERS["train"]),
        codes_of(planted(LETTERS["train"]) if codes_train is None else codes_train),
        UNION7.targets(LETTERS["heldout"]),
        codes_of(planted(LETTERS["heldout"]) if codes_heldout is None else codes_heldout),
        labels,
        elbows() if table is None else table,
        found or true_coordinates,
    )


@pytest.fixture(scope="module")
def perfect():
    return recovered()


def test_codes_that_are_the_beliefs_recover_everything(perfect):
    assert list(perfect.columns) == list(COLUMN_TYPES)
    assert list(perfect["component"]) == list(UNION7.names)
    assert list(perfect["cluster_id"]) == list(CLUSTER_OF_COMPONENT)
    np.testing.assert_allclose(perfect["r2"], 1, atol=1e-9)
    assert (perfect["leak"].abs() < 0.01).all()
    assert summary(perfect)["mean_r2"] == pytest.approx(1)
    assert summary(perfect)["max_leak"] < 0.01


def test_elbows_are_those_of_the_matched_cluster(perfect):
    assert list(perfect["recon_elbow_k"]) == list(CLUSTER_OF_COMPONENT)
    assert list(perfect["arch_elbow_k"]) == list(CLUSTER_OF_COMPONENT + 1)
    assert list(perfect["true_k"].dropna()) == [3, 3, 3, 2, 4]
    assert perfect["true_k"].isna().tolist() == [False] * 5 + [True] * 2


def test_coordinates_that_are_the_beliefs_score_full_marks(perfect):
    simplices = perfect["true_k"].notna()
    np.testing.assert_allclose(perfect.loc[simplices, "barycentric_r2"], 1, atol=1e-9)
    # The purest belief there is lies a little inside the simplex, so purity stays below one.
    assert perfect.loc[simplices, "vertex_purity"].between(0.85, 1).all()
    assert perfect.loc[~simplices, ["barycentric_r2", "vertex_purity"]].isna().all(axis=None)


def test_the_current_letter_tells_much_but_not_all(perfect):
    assert perfect["token_r2"].between(0.3, 0.9).all()
    assert summary(perfect)["mean_token_r2"] == pytest.approx(0.63, abs=0.03)


def test_shuffled_codes_recover_nothing():
    rng = np.random.default_rng(0)
    train, heldout = (
        csr_matrix(rng.permutation(planted(LETTERS[part]).toarray())) for part in LETTERS
    )
    table = recovered(train, heldout)
    assert (table["r2"].abs() < 0.02).all()


def test_a_component_without_a_cluster_counts_zero():
    labels = np.where(CLUSTER_OF_COMPONENT[3] == LABELS, -1, LABELS)
    labels = np.where(labels == 6, CLUSTER_OF_COMPONENT[3], labels)
    table = recovered(labels=labels, table=elbows(6))
    missing = table[table["component"] == "mess2_d"].iloc[0]
    assert pd.isna(missing["cluster_id"])
    assert pd.isna(missing["r2"])
    assert pd.isna(missing["vertex_purity"])
    assert summary(table)["mean_r2"] == pytest.approx(6 / 7)


def test_a_single_cluster_leaks_nowhere():
    table = recovered(labels=np.zeros(28, dtype=np.int64), table=elbows(1), found=lambda *_: None)
    assert table["leak"].isna().all()
    assert set(summary(table)) == {"mean_r2", "mean_token_r2"}


def test_a_split_component_leaks_into_its_other_cluster():
    labels = LABELS.copy()
    labels[1] = 7  # one of the first component's latents gets a cluster of its own
    table = recovered(labels=labels, table=elbows(8))
    first = table.iloc[0]
    assert first["cluster_id"] == CLUSTER_OF_COMPONENT[0]
    assert first["leak"] > 0.4
    assert table["leak"].iloc[1:].max() < 0.01


def test_tokens_of_other_components_spoil_a_vertex():
    def polluted(cluster_id, k):
        tokens, coordinates = true_coordinates(cluster_id, k)
        others = np.setdiff1d(np.arange(LETTERS["heldout"].size), tokens)[:150]
        at_vertex = np.tile(np.eye(k)[0], (len(others), 1))
        return np.concatenate([tokens, others]), np.concatenate([coordinates, at_vertex])

    table = recovered(found=polluted)
    np.testing.assert_allclose(table["barycentric_r2"].iloc[:5], 1, atol=1e-9)
    assert (table["vertex_purity"].iloc[:5] < 0.3).all()  # 150 of the nearest 200 count zero


def test_no_aanet_means_no_simplex_scores():
    table = recovered(found=lambda cluster_id, k: None)
    assert table[["barycentric_r2", "vertex_purity"]].isna().all(axis=None)
    np.testing.assert_allclose(table["r2"], 1, atol=1e-9)


def test_codes_and_letters_must_match():
    with pytest.raises(ValueError, match="training codes have 39999 rows for 40000 tokens"):
        recovered(planted(LETTERS["train"])[:-1])


def test_a_component_that_never_speaks_is_named():
    one = UNION7.beliefs(LETTERS["train"]).component[:, 0] == 0
    letters = LETTERS["train"][one][:1, :2]
    seen = UNION7.targets(letters), codes_of(planted(letters))
    with pytest.raises(ValueError, match="use more documents"):
        recover(*seen, *seen, LABELS, elbows(), true_coordinates)


def test_what_is_the_same_everywhere_cannot_be_recovered():
    train = UNION7.targets(LETTERS["train"])
    flat = train.factors[0]._replace(values=np.ones_like(train.factors[0].values))
    seen = train._replace(factors=[flat]), codes_of(planted(LETTERS["train"]))
    with pytest.raises(ValueError, match=r"mess3_a is the same at all .* nothing to recover"):
        recover(*seen, *seen, LABELS, elbows(), true_coordinates)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3))
def test_heldout_r2_is_that_of_a_linear_regression(seed, features, outputs):
    rng = np.random.default_rng(seed)
    x, x_test = rng.normal(size=(40, features)), rng.normal(size=(30, features))
    mix = rng.normal(size=(features, outputs))
    y, y_test = (part @ mix + rng.normal(size=(len(part), outputs)) + 3 for part in (x, x_test))
    predicted = LinearRegression().fit(x, y).predict(x_test)
    expected = r2_score(y_test, predicted, multioutput="variance_weighted")
    assert heldout_r2(x, y, x_test, y_test) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_token_r2_is_that_of_a_regression_on_which_token_it_is(seed):
    rng = np.random.default_rng(seed)
    ids, ids_test = np.append(rng.integers(0, 5, 40), range(5)), rng.integers(0, 5, 30)
    y, y_test = rng.normal(size=(45, 2)) + ids[:, None], rng.normal(size=(30, 2))
    expected = heldout_r2(np.eye(5)[ids], y, np.eye(5)[ids_test], y_test)
    assert token_r2(ids, y, ids_test, y_test) == pytest.approx(expected)
    # Of a token that training never showed, the mean is all that is known.
    new = np.full(30, 9)
    expected = heldout_r2(np.zeros((45, 0)), y, np.zeros((30, 0)), y_test)
    assert token_r2(ids, y, new, y_test) == pytest.approx(expected)


def test_vertex_beliefs_against_a_slow_version():
    rng = np.random.default_rng(0)
    coordinates, belief = rng.dirichlet(np.ones(3), 500), rng.dirichlet(np.ones(3), 500)
    for vertex, mean in enumerate(vertex_beliefs(coordinates, belief)):
        distance = [np.sqrt(((row - np.eye(3)[vertex]) ** 2).sum()) for row in coordinates]
        nearest = sorted(range(500), key=lambda i: distance[i])[:200]
        np.testing.assert_allclose(mean, np.mean([belief[i] for i in nearest], axis=0))


def test_the_picture_is_a_png_and_always_the_same(tmp_path, perfect):
    paths = [tmp_path / name for name in ("one.png", "two.png")]
    for path in paths:
        write_recovery_plot(path, UNION7.targets(LETTERS["heldout"]), perfect, true_coordinates)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(b"\x89PNG")
    assert len(first) > 50_000
    assert first == second


def test_the_picture_survives_missing_aanets_and_missing_triangles(tmp_path, perfect):
    path = tmp_path / "recovery.png"
    write_recovery_plot(
        path, UNION7.targets(LETTERS["heldout"]), perfect, lambda cluster_id, k: None
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    path.unlink()
    process = UnionProcess([mess(2, 0.1, 0.8), tom_quantum(1.0, 3.0)], 0.1)
    letters = process.sample(10, 4, seed=0)
    write_recovery_plot(
        path, process.targets(letters), perfect.iloc[:0], lambda cluster_id, k: None
    )
    assert path.read_bytes().startswith(b"\x89PNG")


def test_components_that_all_speak_are_recovered_at_all_tokens(tmp_path):
    process = ProductProcess([mess(3, 0.05, 0.7), mess(2, 0.1, 0.8), tom_quantum(1.0, 3.0)])
    train, heldout = (process.targets(process.sample(1_500, 8, seed=seed)) for seed in (0, 1))

    def codes(targets):
        # The second component's belief is in the latents of the third, too: that is a leak.
        a, b, c = (factor.values for factor in targets.factors)
        return codes_of(csr_matrix(np.column_stack([b, a, c[:, 1:] + 2 * b[:, :1]])))

    def found(cluster_id, k):
        belief = heldout.factors[0].values
        return (np.arange(len(belief)), belief) if (cluster_id, k) == (1, 3) else None

    labels = np.array([0, 0, 1, 1, 1, 2, 2])
    table = recover(train, codes(train), heldout, codes(heldout), labels, elbows(3), found)
    assert list(table["cluster_id"]) == [1, 0, 2]
    np.testing.assert_allclose(table["r2"][:2], 1, atol=1e-9)
    assert 0.2 < table["leak"][1] < 0.95
    assert table["barycentric_r2"][0] == pytest.approx(1)
    path = tmp_path / "recovery.png"
    write_recovery_plot(path, heldout, table, found)
    assert path.read_bytes().startswith(b"\x89PNG")
