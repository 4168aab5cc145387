"""`aanet compare` on the finished study, and what it refuses."""

from collections.abc import Callable

import duckdb
import pytest

from aanet_assets_tests.conftest import Finished, said


@pytest.mark.usefixtures("finished")
def test_clusterings_of_a_study_stand_side_by_side(
    finished: Finished, study_module: Callable[..., str]
):
    study_module("own")
    text = said("compare", "small", code=0)
    assert "Clusterings" in text
    assert "Agreement" in text
    with duckdb.connect(str(finished.study.paths.root.parent / "comparison.duckdb")) as database:
        rows = database.execute(
            "SELECT n_clusters_total, selected, mean_r2 FROM clusterings ORDER BY 1"
        ).fetchall()
        assert [row[:2] for row in rows] == [(6, 0), (7, 2)]
        with duckdb.connect(str(finished.study.paths.database), read_only=True) as own:
            truth = own.execute(
                "SELECT avg(r2) FROM recovery GROUP BY n_clusters_total ORDER BY n_clusters_total"
            ).fetchall()
        assert [row[2] for row in rows] == pytest.approx([row[0] for row in truth])
        assert database.execute("SELECT count(*) FROM agreement").fetchall() == [(1,)]
        assert database.execute("SELECT max(jaccard) <= 1 FROM comparison").fetchall() == [(True,)]


def test_latents_of_other_models_are_not_compared(study_module: Callable[..., str]):
    study_module("own")
    text = said("compare", "small", "gpt2_small", code=1)
    assert "different latents, which cannot be compared" in text
    assert "sharing" in text


def test_a_study_without_verdicts_is_named(study_module: Callable[..., str]):
    name = study_module("fresh", "name='fresh'")
    assert "aanet run fresh" in said("compare", name, name, code=1)


def test_an_unknown_study_is_named():
    assert "there is no study 'nothing'" in said("compare", "nothing", code=1)
