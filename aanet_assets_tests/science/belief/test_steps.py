"""The steps that ask the model, on the small study and a real instance; its answer is known."""

import shutil
from collections.abc import Iterator

import dagster as dg
import joblib
import numpy as np
import pandas as pd
import pytest

from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.review.page import read_data
from aanet_assets.science.belief import evidence
from aanet_assets.science.belief.heldout import placed, spread
from aanet_assets.science.belief.tables import chain_rows, contrast_rows, update_rows
from aanet_assets.science.selection.rules import MODES
from aanet_assets.steps import belief as steps
from aanet_assets.steps import edits
from aanet_assets.steps import interpretation as naming
from aanet_assets.steps import responses as pictures
from aanet_assets.steps.functional import FUNCTIONAL_EVIDENCE, functional_evidence
from aanet_assets.steps.review import PAGE
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.storage.records import Standing
from aanet_assets.storage.run import Run
from aanet_assets.storage.table import Table
from aanet_assets.study.settings import (
    BeliefSettings,
    InterpretationSettings,
    SelectionSettings,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.outputs import findings
from aanet_assets_tests.outputs import write as write_table

N = 7


@pytest.fixture(scope="module")
def asked(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """The small study with all that is asked of the model made at n_clusters 7, in a copy."""
    few = BeliefSettings(edited_tokens=40, edit_points=8, near_tokens=30, pairs=60)
    asks = {"belief": few, "interpretation": InterpretationSettings()}
    study = finished.study.model_copy(update=asks)
    home, before = tmp_path_factory.mktemp("asked"), study.paths.root.parents[1]
    for name in ("data/small", "data/.dagster"):
        shutil.copytree(before / name, home / name)
    shutil.copy(before / "dagster.yaml", home)
    (home / "data/inputs").symlink_to(before / "data/inputs")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("AANET_HOME", "DAGSTER_HOME"):
            patch.setenv(variable, str(home))
        patch.chdir(home)
        with dg.DagsterInstance.get() as instance:
            driver = Driver(study, instance)
            for name in ("functional_evidence", "vertex_kl", "simplex_responses",
                         "vertex_interpretation"):  # fmt: skip
                for partition in plan(study, name, [N]):
                    if not driver.is_there(partition):
                        driver.materialise(partition)
        yield study


def read(study: Study, step: object, table: Table) -> pd.DataFrame:
    """A table of a step at n_clusters 7."""
    return Run(study, step.at(n=N)).read(table)  # type: ignore[attr-defined]


def test_what_is_known_of_the_toy_is_found_again(asked: Study) -> None:
    mixtures = read(asked, steps.barycentric_prediction, steps.BARYCENTRIC_PREDICTION)
    known = mixtures[mixtures["component"].notna()].set_index("cluster_id")
    assert len(known) >= 3
    assert (known["belief_r2"] > 0.9).all()
    assert (known["kl_explained"] > 0.9).all()
    assert (known["kl_explained_low"] <= known["kl_explained"]).all()
    # What a mixture explains, neither the token nor coordinates of equal tokens do.
    others = known[["token_kl_explained", "permuted_kl_explained"]].max(axis=1)
    assert (others < known["kl_explained"]).all()
    assert (known["sufficiency"] > 0.9).all()
    updates = read(asked, steps.belief_update, steps.BELIEF_UPDATE).query("not null_cluster")
    own = updates.set_index("cluster_id").loc[known.index]
    assert (own["operator_error"] < 0.3).all()
    steered = read(asked, edits.vertex_steering, edits.VERTEX_STEERING).query("not null_cluster")
    own = steered.set_index("cluster_id").loc[known.index]
    assert (own["true_reached"] > 0.95).all()
    assert (own[["random", "other_cluster"]] < 0.5).all(axis=None)
    chains = read(asked, steps.belief_update, steps.BELIEF_CHAINS)
    true = chains.dropna(subset=["true_probability"])
    assert set(true["cluster_id"]) == set(known.index)
    assert (true["probability"] - true["true_probability"]).abs().max() < 0.15
    assert (true["low"] <= true["high"]).all()


def test_all_clusters_are_there_and_what_is_null_has_a_reason(asked: Study) -> None:
    table = read(asked, functional_evidence, FUNCTIONAL_EVIDENCE)
    fits = read(asked, steps.simplex_fits, steps.SIMPLEX_FITS)
    assert len(table) == len(fits) > N
    assert not table.duplicated(["cluster_id", "null_cluster"]).any()
    real = table[~table["null_cluster"].astype(bool)]
    assert len(real) == N
    # The small study has fewer null clusters than a p-value needs.
    assert real["kl_explained_p"].isna().all()
    assert real["unavailable"].str.contains("null clusters, and p-values need 20").all()
    contrasts = read(asked, edits.vertex_kl, edits.VERTEX_KL).query("not null_cluster")
    assert (contrasts["between"] > contrasts["within"]).all()


def test_vertices_of_selected_clusters_have_names_and_null_clusters_too(asked: Study) -> None:
    table = read(asked, naming.vertex_interpretation, naming.VERTEX_INTERPRETATION)
    null_cluster = table["null_cluster"].astype(bool)
    assert set(table[~null_cluster]["cluster_id"]) == {0, 3}
    assert table[null_cluster]["cluster_id"].nunique() == 2
    assert (table["named_by"] == "contrast words").all()
    assert table["name"].str.len().gt(0).all()
    # Letters of the component, which say most of its state.
    assert table["detection"].dropna().between(0, 1).all()
    assert table["detection"].notna().any()


def test_an_edit_that_changes_nothing_leaves_the_models_predictions(asked: Study) -> None:
    run = Run(asked, edits.interventional_mixture.at(n=N))
    heldout, simplices, _ = steps.placed_clusters(run)
    editor = edits.editor_of(run, heldout)
    tokens = np.array([0, 5, 17, 40])
    found = editor.predict(tokens, editor.residual(tokens)[:, None])[:, 0]
    np.testing.assert_allclose(found, heldout.p[tokens], atol=1e-3)
    changed = editor.predict(tokens, 3 * np.roll(editor.residual(tokens), 1, axis=1)[:, None])
    assert np.abs(changed[:, 0] - heldout.p[tokens]).max() > 0.05
    assert {simplex.null_cluster for simplex in simplices} == {False, True}


def test_responses_are_those_of_the_model_between_the_vertices(asked: Study) -> None:
    run = Run(asked, edits.interventional_mixture.at(n=N))
    heldout, simplices, _ = steps.placed_clusters(run)
    editor, belief = edits.editor_of(run, heldout), asked.belief_settings
    tokens = read(asked, pictures.simplex_responses, pictures.SIMPLEX_TOKENS)
    doses = read(asked, pictures.simplex_responses, pictures.DOSE_RESPONSE)
    assert set(doses["cluster_id"]) == set(tokens["cluster_id"]) == set(range(N))
    simplex = next(one for one in simplices if not one.null_cluster and len(one.vertices) == 3)
    cluster_id, here = simplex.cluster.cluster_id, placed(heldout, simplex)
    own = doses[(doses["cluster_id"] == cluster_id) & (doses["rank"] == 0)]
    edited = editor.without(simplex, spread(heldout, here, belief.edited_tokens, belief.seed))
    start, end = own["from_vertex"].iloc[0], own["to_vertex"].iloc[0]
    middle = simplex.in_stream[[start, end]].mean(axis=0)
    for share, place in ((0.0, simplex.in_stream[start]), (0.5, middle)):
        p = editor.predict(edited.tokens, (edited.without + place)[:, None])
        row = own.iloc[round(10 * share)]
        assert row["coordinate"] == share
        expected = p[:, 0, row["group_id"]]
        assert row["probability"] == pytest.approx(expected.mean(), abs=1e-5)
        assert row["low"] == pytest.approx(np.percentile(expected, 10), abs=1e-5)
    # Letters are tokens of their own here.
    assert (doses["group_tokens"] == 1).all()
    p = heldout.p[here.tokens][:, own["group_id"].iloc[0]].astype(np.float64)
    kept = tokens[tokens["cluster_id"] == cluster_id]
    assert {each[0] for each in kept["probabilities"]} <= set(p)
    place = {
        value: b for value, b in zip(p, here.coordinates, strict=True) if (p == value).sum() == 1
    }
    alone = [(b, q[0]) for b, q in zip(kept["coordinates"], kept["probabilities"], strict=True)
             if q[0] in place]  # fmt: skip
    assert alone
    for b, q in alone:
        np.testing.assert_allclose(b, place[q])
    # Simplices of beliefs are mixtures, or nearly.
    known = read(asked, steps.barycentric_prediction, steps.BARYCENTRIC_PREDICTION)
    simplicial = known[known["component"].notna()]["cluster_id"]
    off = (doses["probability"] - doses["mixture"]).abs()[doses["cluster_id"].isin(simplicial)]
    assert off.max() < 0.1


def test_damaged_responses_are_seen(asked: Study) -> None:
    at = pictures.simplex_responses.at(n=N)
    tables = pictures.SIMPLEX_TOKENS, pictures.DOSE_RESPONSE
    there = {table: read(asked, pictures.simplex_responses, table) for table in tables}

    def failed(table: Table, frame: pd.DataFrame) -> list[str]:
        write_table(asked, at, table, frame)
        names = [name for name, found in findings(asked, at).items() if not found.passed]
        write_table(asked, at, table, there[table])
        return names

    tokens, doses = there.values()
    assert failed(tables[1], doses) == []
    assert failed(tables[1], doses[doses["cluster_id"] != 2]) == ["complete"]
    assert failed(tables[1], doses.assign(probability=1.5)) == ["ranges"]
    twice = tokens["coordinates"].map(lambda b: b / 2)
    assert failed(tables[0], tokens.assign(coordinates=twice)) == ["ranges"]


def test_tokens_stand_where_the_text_says(asked: Study) -> None:
    heldout, _, truth = steps.placed_clusters(Run(asked, steps.belief_update.at(n=N)))
    assert truth is not None
    np.testing.assert_array_equal(
        heldout.text[heldout.chunks, heldout.positions], heldout.token_ids
    )
    assert (np.diff(heldout.chunks) >= 0).all()
    assert heldout.codes.shape[0] == len(heldout.p) == len(heldout.token_ids)
    fewer = asked.model_copy(
        update={"belief": asked.belief_settings.model_copy(update={"tokens": 1_000})}
    )
    some, _, _ = steps.placed_clusters(Run(fewer, steps.belief_update.at(n=N)))
    assert 1_000 - asked.cache.seq_len < len(some.token_ids) <= 1_000
    np.testing.assert_array_equal(some.p, heldout.p[: len(some.p)])


def test_rows_do_not_depend_on_the_number_of_threads(
    asked: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    heldout, simplices, truth = steps.placed_clusters(Run(asked, steps.belief_update.at(n=N)))
    few = list(simplices)[:6]
    tables = []
    for count in (1, 3):
        monkeypatch.setattr(joblib, "cpu_count", lambda count=count: count)
        rows = [
            *update_rows(heldout, few, asked.belief_settings, truth),
            *chain_rows(heldout, few, asked.belief_settings, truth),
            *contrast_rows(heldout, few, asked.belief_settings),
        ]
        tables.append(pd.DataFrame(rows))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert len(tables[0]) > 3 * len(few)


def test_clusters_are_selected_by_what_the_model_does(asked: Study, copied: Study) -> None:
    lax = asked.belief_settings.model_copy(
        update={"min_kl_explained": 0.9, "min_prediction_r2": 0.8, "min_int_r2": 0.8}
    )
    by_use = SelectionSettings(mode="functional", manual_clusters="7:0", manual_k="7:0=2")
    study = asked.model_copy(update={"belief": lax, "selection": by_use})
    made = []
    with dg.DagsterInstance.get() as instance:
        driver = Driver(study, instance)
        for partition in plan(study, "review_page", [N]):
            if not driver.is_there(partition):
                driver.materialise(partition)
                made.append(partition.step.name)
    assert made == ["selected_clusters", "refit_models", "vertex_samples", "review_page"]
    verdicts = read(study, selected_clusters, SELECTED_CLUSTERS).set_index("cluster_id")
    chosen = verdicts[verdicts["selected"]]
    assert (chosen["category"] == chosen["functional_category"]).all()
    assert set(chosen["category"]) == {"F", "M"}
    picked = verdicts.reset_index().to_dict("records")[0]
    assert (picked["category"], picked["k"], picked["k_source"]) == ("M", 2, "manual")
    ks = read(study, functional_evidence, FUNCTIONAL_EVIDENCE).query("not null_cluster")
    by_rule = chosen[chosen["category"] == "F"]
    assert (by_rule["k"] == ks.set_index("cluster_id").loc[by_rule.index, "k"]).all()
    page = read_data(PAGE.under(study.paths.root, n=N))
    assert set(page["rules"]) == set(MODES)
    steered = read(study, edits.vertex_steering, edits.VERTEX_STEERING).query("not null_cluster")
    chains = read(study, steps.belief_update, steps.BELIEF_CHAINS)
    for i, own in page["functional"]["clusters"].items():
        reached = steered[steered["cluster_id"] == int(i)]["reached"].iloc[0]
        assert own["steering"]["reached"] == pytest.approx(reached, rel=1e-3)
        chain = chains[chains["cluster_id"] == int(i)]
        found = np.ravel(own["chain"]["probability"])
        np.testing.assert_allclose(found, chain["probability"], rtol=1e-3, atol=1e-9)
        assert (own["chain"]["true"] is None) == chain["true_probability"].isna().all()
        # The small study has fewer null clusters than a p-value needs.
        noted = own["statistics"]["int_r2"]["noP"]
        assert noted == "14 null clusters, and p-values need 20"
    # A limit, and not the rest of `belief`, decides what is selected.
    other = study.model_copy(update={"belief": lax.model_copy(update={"max_context": 0.5})})
    problem = Standing(other).problem(selected_clusters.at(n=N))
    assert problem is not None
    assert "belief.max_context" in problem
    assert Standing(other).problem(functional_evidence.at(n=N)) is None


def tables_of(nulls: int) -> Iterator[pd.DataFrame]:
    """Statistics of two clusters, one of which stands out, and of null clusters."""
    rng = np.random.default_rng(0)
    whole = pd.DataFrame(
        {
            "cluster_id": [0, 1, *range(nulls)],
            "null_cluster": [False, False, *[True] * nulls],
            "n_latents": 4,
            "k": 3,
            "unavailable": ["", "one vertex has no token", *[""] * nulls],
        }
    )
    yield whole
    yield whole.assign(
        unavailable="", **{c: rng.uniform(0, 0.5, len(whole)) for c in evidence.COMPARED}
    ).assign(kl_explained=[0.99, np.nan, *rng.uniform(0, 0.5, nulls)])


def test_p_values_tell_what_stands_out_and_are_not_made_up() -> None:
    fits, *tables = tables_of(99)
    found = evidence.gather(fits, tables)
    assert found["kl_explained_p"].tolist()[0] == pytest.approx(0.01)
    assert found["kl_explained_p"].isna().tolist() == [False, *[True] * 100]
    assert found["unavailable"].tolist()[:2] == ["", "one vertex has no token"]
    fits, *tables = tables_of(19)
    few = evidence.gather(fits, tables)
    assert few["kl_explained_p"].isna().all()
    assert "kl_explained has 19 null clusters, and p-values need 20" in few["unavailable"][0]
    assert few["unavailable"][1].startswith("one vertex has no token; ")
