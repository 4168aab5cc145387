"""Studies side by side: in YAML and Python, on shared activations, and one that does not load."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver

from aanet_assets.cli.prune import unneeded
from aanet_assets.orchestration import studies
from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.orchestration.studies import StudyModuleError, all_definitions, load_study
from aanet_assets.steps.activations import activation_cache
from aanet_assets.steps.clusters import CLUSTERS, cluster_rows, clustering
from aanet_assets.storage.records import Standing, read_record
from aanet_assets.study.settings import ClusteringSettings, VertexSettings
from aanet_assets.study.study import Study
from aanet_assets_tests import outputs
from aanet_assets_tests.conftest import Finished, said
from aanet_assets_tests.small import small_study

_BASE = """
from aanet_assets.orchestration.build import build_defs
from aanet_assets_tests.small import small_study

study = small_study()
defs = build_defs(study)
"""
_YAML = """
type: aanet_assets.orchestration.component.StudyComponent
attributes:
  name: {name}
  activations: small
  n_clusters: [7]
  ks: [2, 3, 4]
  clustering:
    method: {method}
"""

_WHOLE_YAML = """
type: aanet_assets.orchestration.component.StudyComponent
attributes:
  name: old
  model: path/to/model
  sae:
    directory: path/to/sae
  corpus:
    files: path/to/*.parquet
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of studies of its own, with the small study in it."""
    package = tmp_path / "own_studies"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "small.py").write_text(_BASE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(studies, "studies", importlib.import_module("own_studies"))
    monkeypatch.setattr(studies, "PACKAGE", "own_studies")
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "own_studies"]:
        del sys.modules[name]


def write_yaml(folder: Path, name: str, method: str = "kmeans") -> None:
    (folder / name).mkdir()
    (folder / name / "defs.yaml").write_text(_YAML.format(name=name, method=method))


def test_a_study_in_yaml_shares_the_activations_that_it_names(folder: Path) -> None:
    write_yaml(folder, "by_kmeans")
    study = load_study("by_kmeans").study
    assert (study.name, study.activations, study.n_clusters) == ("by_kmeans", "small", (7,))
    assert study.clustering.method == "kmeans"
    assert study.cache == small_study().cache


def test_a_wrong_value_in_yaml_is_one_sentence_that_names_it(folder: Path) -> None:
    write_yaml(folder, "wrong", method="kmean")
    with pytest.raises(StudyModuleError) as error:
        load_study("wrong")
    said = str(error.value)
    assert said.startswith("study 'wrong' has a wrong value. clustering.method: Input should be")
    assert "'kmean'" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("old.py", "from aanet_assets.study.settings import TrustSettings\n"),
        ("old.py", _BASE.replace("small_study()", "small_study(trust={'nulls': 8})")),
        ("old/defs.yaml", _YAML.format(name="old", method="kmeans") + "  trust:\n    nulls: 8\n"),
        ("old/defs.yaml", _WHOLE_YAML + "  trust:\n    nulls: 8\n"),
    ],
)
def test_the_old_name_of_the_controls_is_one_error_with_the_new(
    folder: Path, file: str, text: str
) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(text)
    with pytest.raises(StudyModuleError) as error:
        load_study("old")
    said = str(error.value)
    assert said.count("is called controls now: set controls=ControlSettings(...), or in YAML") == 1
    assert "\n" not in said


def test_a_study_that_does_not_load_takes_no_other_down(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "broken.py").write_text("study = nonsense\n")
    write_yaml(folder, "by_kmeans")
    defs = all_definitions()
    # What only validates the definitions shows no asset.
    (logged,) = [record.getMessage() for record in caplog.records if record.name == "aanet"]
    assert logged.startswith("study 'broken' is not loaded: study 'broken' cannot be loaded: Name")
    (spec,) = [s for s in defs.resolve_all_asset_specs() if s.key.path[0] == "broken"]
    assert spec.key == dg.AssetKey(["broken", "not_loaded"])
    assert "NameError" in (spec.description or "")
    assert "broken.py, line 1" in (spec.description or "")
    keys = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert {"small/activation_cache", "small/clustering", "by_kmeans/clustering"} <= keys
    assert "by_kmeans/activation_cache" not in keys


def test_a_shared_cache_is_an_edge_between_studies(folder: Path) -> None:
    write_yaml(folder, "by_kmeans")
    graph = all_definitions().resolve_asset_graph()
    parents = graph.get(dg.AssetKey(["by_kmeans", "clustering"])).parent_keys
    assert parents == {dg.AssetKey(["small", "codes_by_latent"])}


_ACTIVATIONS = """
from aanet_assets.orchestration.build import build_defs
from aanet_assets.study.study import Activations
from aanet_assets_tests.small import small_study

corpus = {"files": "data/texts/corpus/*.parquet"}
study_of_them = small_study(name="texts", corpus=corpus)
activations = Activations(
    **{field: getattr(study_of_them, field) for field in Activations.model_fields}
)
defs = build_defs(activations)
"""
_ON_THEM = """
from aanet_assets.orchestration.build import build_defs
from own_studies.texts import activations

study = activations.sharing("by_subspaces", n_clusters=(6,), clustering={"method": "k_subspaces"})
defs = build_defs(study)
"""
_ACTIVATIONS_YAML = """
type: aanet_assets.orchestration.component.ActivationsComponent
attributes:
  name: texts
  model: data/inputs/toy/model
  sae: {directory: data/inputs/toy/sae}
  corpus: {files: "data/texts/corpus/*.parquet"}
  cache: {seq_len: 17, documents_per_shard: 1500, tokens_per_shard: 25500, training_shards: 2,
          heldout_shards: 1, batch_chunks: 256}
  truth: {process: union7}
"""


@pytest.fixture(params=["texts.py", "texts/defs.yaml"])
def sharing(folder: Path, request: pytest.FixtureRequest) -> None:
    """Activations by themselves, in Python or YAML, and a study in YAML that shares them."""
    file = folder / request.param
    file.parent.mkdir(exist_ok=True)
    file.write_text(_ACTIVATIONS if file.suffix == ".py" else _ACTIVATIONS_YAML)
    (folder / "by_kmeans").mkdir()
    text = _YAML.format(name="by_kmeans", method="kmeans").replace("small", "texts")
    (folder / "by_kmeans/defs.yaml").write_text(text)
    if file.suffix == ".py":
        (folder / "by_subspaces.py").write_text(_ON_THEM)


@pytest.mark.usefixtures("sharing")
def test_activations_by_themselves_have_their_assets_and_no_clusters() -> None:
    defs = all_definitions()
    keys = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    own = {key.removeprefix("texts/") for key in keys if key.startswith("texts/")}
    assert own == {
        "corpus", "sae_fit", "activation_cache", "codes_by_latent", "token_groups", "predictions",
    }  # fmt: skip
    for study in {"by_kmeans", "by_subspaces"} & set(studies.study_names()):
        assert f"{study}/clustering" in keys
        assert f"{study}/activation_cache" not in keys
        parents = defs.resolve_asset_graph().get(dg.AssetKey([study, "clustering"])).parent_keys
        assert parents == {dg.AssetKey(["texts", "codes_by_latent"])}
    jobs = {job.name for job in defs.resolve_all_job_defs() if job.name.startswith("texts_")}
    assert jobs == {"texts_stage1_cache", "texts_stage1_predictions"}
    assert not [sensor.name for sensor in defs.sensors or () if "texts" in sensor.name]


@pytest.mark.parametrize("sharing", ["texts.py"], indirect=True)
@pytest.mark.usefixtures("sharing")
def test_activations_by_themselves_are_run_once_for_the_studies_that_share_them(
    home: Path,
) -> None:
    said("run", "texts", code=0)
    assert "Activations of data/inputs/toy/model" in (listed := said("list", code=0))
    wanted = sum(1 for _ in partitions_of(load_study("texts").study))
    assert f"{wanted} of {wanted}" in listed
    assert re.search(r"activation_cache │ 3 │ 0 │ 0", said("status", "texts", code=0))
    plan = said("plan", "texts", "--on", "8xh100", code=0)
    assert "activation cache" in plan
    assert "AANets" not in plan
    for study in ("by_kmeans", "by_subspaces"):
        ran = said("run", study, "--until", "clustering", code=0)
        assert "activation_cache 0 made, 3 already there" in ran
        assert "clustering 1 made, 0 already there" in ran
        assert not (home / "data" / study / "activation_cache").exists()
    assert sorted((home / "data/texts/activation_cache").glob("*.safetensors"))
    for command in ("review", "serve", "compare"):
        assert "is activations alone, without clusters" in said(command, "texts", code=1)


@pytest.fixture
def other(finished: Finished) -> Study:
    """Another study on the activations of the finished one."""
    return finished.study.sharing(
        "other",
        n_clusters=(6,),
        ks=(2, 3, 4),
        clustering=ClusteringSettings(method="kmeans"),
        rows=finished.study.rows,
    )


def test_changing_the_clustering_method_starts_at_clustering(
    finished: Finished, other: Study
) -> None:
    shared = [read_record(finished.study, part) for part in activation_cache.all_of(finished.study)]
    driver = Driver(other, finished.instance)
    todo = [p for p in plan(other, until=cluster_rows.name) if not driver.is_there(p)]
    assert todo == [clustering.at(n=6), cluster_rows.at(n=6)]
    for partition in todo:
        driver.materialise(partition)
    own, theirs = (
        outputs.read(study, cluster_rows.at(n=6), CLUSTERS)["latent_indices"].map(list).tolist()
        for study in (other, finished.study)
    )
    assert sorted(map(len, own)) != sorted(map(len, theirs)), "the methods cluster alike"
    assert [read_record(other, part) for part in activation_cache.all_of(other)] == shared
    assert not (other.paths.root / "activation_cache").exists()
    assert unneeded(finished.study) == {}, "what one shares is not what the other does not need"
    standing = Standing(finished.study)
    assert standing.problem(clustering.at(n=6)) is None


def test_what_belongs_to_shared_activations_is_not_for_the_other_study_to_change(
    finished: Finished,
) -> None:
    with pytest.raises(ValueError, match="shares the activations of 'small', and so its cache"):
        finished.study.sharing("other", cache=finished.study.cache)


@pytest.mark.parametrize(
    ("changes", "is_stale"),
    [
        ({}, False),
        ({"vertices": VertexSettings(samples_per_vertex=9)}, False),
        ({"clustering": ClusteringSettings(method="kmeans")}, True),
    ],
)
def test_dagit_shows_stale_what_obeys_a_changed_setting(
    finished: Finished, changes: dict, is_stale: bool
) -> None:
    changed = finished.study.model_copy(update=changes)
    graph = build_defs(changed).resolve_asset_graph()
    with dg.DagsterInstance.get() as instance:
        resolver = CachingStaleStatusResolver(instance, graph, _loading(instance))
        status = resolver.get_status(dg.AssetKey(["small", "clustering"]), "7")
    assert (status.value == "STALE") == is_stale
    assert (Standing(changed).problem(clustering.at(n=7)) is not None) == is_stale


def _loading(instance: dg.DagsterInstance):
    from dagster._core.loader import LoadingContextForTest

    return LoadingContextForTest(instance)
