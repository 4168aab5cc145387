"""A study that is opened: which simplices it gives, and what it says where there is none."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aanet_assets import open_study
from aanet_assets.explore.opened import OpenStudy
from aanet_assets.orchestration.studies import StudyModuleError
from aanet_assets.steps.clusters import cluster_rows
from aanet_assets.steps.selection import selected_clusters
from aanet_assets.steps.vertices import METADATA, MODEL, vertex_samples
from aanet_assets.storage.records import NotReadyError, record_path
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT, Finished
from aanet_assets_tests.explore.conftest import N


def test_clusters_that_are_not_selected_have_a_simplex_at_a_given_k(
    opened: OpenStudy, text: str
) -> None:
    assert [(one.cluster_id, one.k) for one in opened.selected(N)] == [(0, 3), (3, 2)]
    other = opened.simplex(N, 1, 4)
    assert other.vertices.shape == (4, 64)
    assert other.provenance.made_by == "aanet_models"
    assert other.project(text)["counted"].sum() == 16
    with pytest.raises(ValueError, match="has no vertex samples here"):
        other.nearest(0)
    # Selected, but at another k than this.
    assert opened.simplex(N, 0, 2).provenance.made_by == "aanet_models"
    assert opened.simplex(N, 0, 3).provenance.made_by == "refit_models"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((5, 0), "study 'small' has no n_clusters 5; it has 6, 7"),
        ((7, 9), "there is no cluster 9 in n_clusters 7: its ids run from 0 to 6"),
        ((7, -1), "there is no cluster -1"),
        ((7, 1), "is not selected, so that its k has to be given: one of 2, 3, 4"),
        ((7, 1, 9), "study 'small' has no models of k=9; it has the ks 2, 3, 4"),
    ],
)
def test_mistakes_are_one_sentence(opened: OpenStudy, arguments: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        opened.simplex(*arguments)


def test_what_is_missing_is_named_with_the_command_that_makes_it(copied: Study) -> None:
    record_path(copied, cluster_rows.at(n=N)).unlink()
    with pytest.raises(NotReadyError) as error:
        open_study(copied).simplex(N, 1, 3)
    assert str(error.value) == (
        "selected_clusters [n_clusters 7] of study 'small' is made from cluster_rows [n_clusters "
        "7], which is missing. Run: aanet run small --until selected_clusters --n-clusters 7"
    )


def test_before_the_selection_there_is_no_k_to_go_by(copied: Study) -> None:
    record_path(copied, selected_clusters.at(n=N)).unlink()
    opened = open_study(copied)
    with pytest.raises(
        NotReadyError, match=r"\[n_clusters 7\] of study 'small' is missing\. Run: aanet ru"
    ):
        opened.simplex(N, 1)
    assert opened.simplex(N, 1, 3).provenance.made_by == "aanet_models"


def test_what_is_damaged_is_not_opened(copied: Study) -> None:
    named = {"n": N, "cluster_id": 0, "k": 3, "category": "M"}
    file = MODEL.under(copied.paths.root, **named)
    content = bytearray(file.read_bytes())
    content[-300] ^= 1
    file.write_bytes(content)
    with pytest.raises(NotReadyError, match=r"needs refit_models \[n_clusters 7\], whose files do"):
        open_study(copied).simplex(N, 0)


def test_why_there_are_no_samples_is_said(copied: Study) -> None:
    record_path(copied, vertex_samples.at(n=N)).unlink()
    simplex = open_study(copied).simplex(N, 0)
    with pytest.raises(ValueError, match=r"here: vertex_samples .* 7\] is missing\. Run: "):
        simplex.nearest(0)


def test_a_cluster_without_a_model_says_why(copied: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"n": N, "cluster_id": 0, "k": 3, "category": "M"}
    file, metadata = (each.under(copied.paths.root, **named) for each in (MODEL, METADATA))
    opened = open_study(copied)
    # As after a refit that failed, whose record knows no model.
    opened._standing.problem = lambda partition: None
    monkeypatch.setattr("aanet_assets.explore.opened.require_as_recorded", lambda *all: None)
    file.unlink()
    told = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(told | {"status": "failed", "reason": "no extrema"}))
    with pytest.raises(ValueError, match=r"no model at k=3: failed \(no extrema\)"):
        opened.simplex(N, 0)


def test_a_study_is_opened_by_name_or_by_the_path_of_its_module(
    finished: Finished, study_module, tmp_path: Path
) -> None:
    name = study_module("small_opened")
    assert open_study(name).simplex(N, 3).k == 2
    file = tmp_path / "studies" / "small_opened" / "small.py"
    assert open_study(str(file)).study == open_study(file).study == finished.study
    with pytest.raises(StudyModuleError, match="there is no study 'nowhere'; there are: "):
        open_study("nowhere")
    with pytest.raises(StudyModuleError, match=r"there is no study at nowhere\.py: give"):
        open_study("nowhere.py")
    other = file.with_name("other.py")
    other.write_text(file.read_text())
    with pytest.raises(StudyModuleError, match="builds a study named 'small'"):
        open_study(other)
    other.write_text("x = 1")
    with pytest.raises(StudyModuleError, match="'other' has no `study`"):
        open_study(other)
    other.write_text("1 / 0")
    with pytest.raises(StudyModuleError, match="'other' cannot be loaded: ZeroDivisionError"):
        open_study(other)


def test_where_there_is_no_project_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"is not a project's folder .* or set AANET_HOME to it"):
        open_study("toy")


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, aanet_assets; print({'torch', 'dagster', 'pandas'} & set(sys.modules)); "
        "from aanet_assets import open_study; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.split("\n")[:2] == ["set()", "True"], done.stderr
