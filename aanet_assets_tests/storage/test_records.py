"""Records tell missing from stale from good, and a partition without its record is missing."""

import json
import re
from pathlib import Path

import pytest

from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.steps.aanets import aanet_metrics, aanet_models
from aanet_assets.steps.activations import activation_cache, codes_by_latent, sae_fit
from aanet_assets.steps.clusters import CLUSTERING, cluster_rows, clustering
from aanet_assets.steps.vertices import vertex_samples
from aanet_assets.storage.fingerprints import content_digest
from aanet_assets.storage.obeyed import settings_values
from aanet_assets.storage.records import (
    MISSING,
    NotReadyError,
    Standing,
    contents_read,
    discard_record,
    record_path,
    require_upstream,
    write_record,
)
from aanet_assets.study.settings import CorpusSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.small import pretend, small_study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of which every partition has a record."""
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    study = small_study()
    for partition in partitions_of(study):
        pretend(study, partition, f"content of {partition}")
    return study


def stale(study: Study) -> set[str]:
    standing = Standing(study)
    return {
        str(partition)
        for partition in partitions_of(study)
        if standing.problem(partition) is not None
    }


def test_all_is_good_after_all_is_written(study: Study) -> None:
    assert stale(study) == set()


def test_a_partition_whose_work_began_and_did_not_end_is_missing(study: Study) -> None:
    discard_record(study, vertex_samples.at(n=7))
    assert Standing(study).problem(vertex_samples.at(n=7)) == MISSING
    assert stale(study) == {"vertex_samples [n_clusters 7]", "review_page [n_clusters 7]"}


def test_new_content_makes_stale_what_was_made_from_the_old(study: Study) -> None:
    pretend(study, aanet_models.at(n=7, k=3), "other")
    assert stale(study) == {
        "aanet_exports [n_clusters 7, k 3]",
        "aanet_metrics [n_clusters 7, k 3]",
        "replicates [n_clusters 7, k 3]",
        "consolidated_metrics [n_clusters 7]",
        "evidence [n_clusters 7]",
        "reproducibility [n_clusters 7]",
        "analysis_plots [n_clusters 7]",
        "selected_clusters [n_clusters 7]",
        "refit_models [n_clusters 7]",
        "vertex_samples [n_clusters 7]",
        "review_page [n_clusters 7]",
        "recovery [n_clusters 7]",
    }


def test_equal_content_leaves_all_good(study: Study) -> None:
    partition = aanet_models.at(n=7, k=3)
    pretend(study, partition, f"content of {partition}")
    assert stale(study) == set()


def test_shared_activations_are_good_for_both_studies(study: Study) -> None:
    other = study.sharing("other", n_clusters=(7,), ks=(2, 3))
    of_other = [clustering.at(n=7), cluster_rows.at(n=7)]
    for partition in of_other:
        assert Standing(other).problem(partition) == MISSING
        pretend(other, partition, f"other content of {partition}")
    shard = activation_cache.at(shard=0)
    assert record_path(other, shard) == record_path(study, shard)
    for partition in (sae_fit.at(), shard, *of_other):
        assert Standing(other).problem(partition) is None
    assert stale(study) == set()
    pretend(other, shard, "other")
    why = f"was made from another {shard} than the one there is now"
    by_latent = codes_by_latent.at(shard=0)
    for each in (study, other):
        assert Standing(each).problem(by_latent) == why
        for partition in of_other:
            said = Standing(each).problem(partition)
            assert said == f"is made from {by_latent}, which {why}"


def test_a_record_without_files_or_without_sense_proves_nothing(study: Study) -> None:
    partition = clustering.at(n=7)
    path = record_path(study, partition)
    old = json.loads(path.read_text())
    del old["files"]
    path.write_text(json.dumps(old))
    problem = Standing(study).problem(partition)
    assert problem == "was recorded by an earlier version of the code, without its files"
    path.write_text(path.read_text()[:20])
    assert Standing(study).problem(partition) == MISSING


def test_a_refusal_names_both_sides_and_the_command(study: Study) -> None:
    pretend(study, clustering.at(n=7), "other")
    with pytest.raises(NotReadyError) as refusal:
        require_upstream(study, aanet_models.at(n=7, k=3))
    assert str(refusal.value) == (
        "aanet_models [n_clusters 7, k 3] of study 'small' needs cluster_rows [n_clusters 7], "
        "which was made from another clustering [n_clusters 7] than the one there is now. "
        "Run: aanet run small --until cluster_rows --n-clusters 7"
    )
    require_upstream(study, aanet_models.at(n=6, k=3))


def test_a_changed_setting_is_named_with_both_values(study: Study) -> None:
    changed = study.model_copy(update={"rows": study.rows.model_copy(update={"threshold": 0.2})})
    rows, later = cluster_rows.at(n=7), aanet_metrics.at(n=7, k=3)
    why = "was made before a change: rows.threshold was 0.3, is now 0.2"
    assert Standing(changed).problem(rows) == why
    assert Standing(changed).problem(later) == f"is made from {rows}, which {why}"
    assert Standing(changed).origin(later) == rows
    with pytest.raises(NotReadyError, match=r"rows\.threshold was 0\.3, is now 0\.2\. Run: "):
        require_upstream(changed, aanet_models.at(n=7, k=3))


def test_of_many_changes_some_are_named_and_long_values_are_shortened(study: Study) -> None:
    fields = {"threshold": 0.2, "threshold_kind": "absolute", "max_rows": 7, "seed": 5}
    changed = study.model_copy(update={"rows": study.rows.model_copy(update=fields)})
    problem = Standing(changed).problem(cluster_rows.at(n=7))
    assert problem is not None
    assert "rows.max_rows was 2000, is now 7; rows.seed was" in problem
    assert problem.endswith("; and 1 more")
    changed = study.model_copy(update={"corpus": CorpusSettings(files="x" * 100)})
    problem = Standing(changed).problem(sae_fit.at())
    assert f'corpus.files was "data/small/corpus/*.parquet", is now "{"x" * 36}...' in str(problem)


def test_a_changed_input_file_is_named(study: Study, tmp_path: Path) -> None:
    partition = sae_fit.at()
    sae = Study.model_validate(study.model_dump() | {"sae": {"directory": "sae"}})
    (tmp_path / "sae").mkdir()
    for name in ("cfg.json", "old.json", "sae_weights.safetensors"):
        (tmp_path / "sae" / name).write_text("1")
    pretend(sae, partition, "content of sae_fit")
    (tmp_path / "sae" / "cfg.json").write_text("2")
    (tmp_path / "sae" / "old.json").rename(tmp_path / "sae" / "new.json")
    assert Standing(sae).problem(partition) == (
        "was made before a change: sae file cfg.json changed; sae file new.json is new; "
        "sae file old.json is gone"
    )


def test_of_very_many_input_files_a_record_keeps_one_digest(study: Study, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(300):
        (tmp_path / "many" / f"{number}.txt").write_text("1")
    corpus = study.model_copy(update={"corpus": CorpusSettings(files="many/*.txt"), "truth": None})
    partition = sae_fit.at()
    pretend(corpus, partition, "content of sae_fit")
    assert Standing(corpus).problem(partition) is None
    assert record_path(corpus, partition).stat().st_size < 5_000
    (tmp_path / "many" / "7.txt").write_text("2")
    assert str(Standing(corpus).problem(partition)).endswith(": some of the corpus files changed")


def test_inputs_that_change_while_a_partition_is_made_count_as_they_were(study: Study) -> None:
    partition = cluster_rows.at(n=7)
    before = settings_values(small_study(rows={"threshold": 0.9}), cluster_rows)
    write_record(study, partition, "content", [], contents_read(study, partition), before)
    assert "rows.threshold was 0.9, is now 0.3" in str(Standing(study).problem(partition))


def test_a_record_of_an_earlier_version_still_tells_that_settings_changed(study: Study) -> None:
    partition = clustering.at(n=7)
    path = record_path(study, partition)
    old = json.loads(path.read_text())
    del old["values"]
    path.write_text(json.dumps(old | {"settings": "0" * 16}))
    assert Standing(study).problem(partition) == "was made with other settings or input files"


def test_files_that_are_gone_or_cut_short_are_noticed(study: Study) -> None:
    partition = clustering.at(n=7)
    file = CLUSTERING.under(study.paths.root, n=7)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    content = f"content of {partition}"
    write_record(study, partition, content, [file], contents_read(study, partition))
    assert stale(study) == set()
    file.write_bytes(b"1234")
    assert Standing(study).problem(partition) == (
        "had 5 bytes in clusters_7/clustering.safetensors, where 4 are now"
    )
    path = record_path(study, partition)
    old = json.loads(path.read_text())
    path.write_text(json.dumps(old | {"files": list(old["files"])}))
    assert Standing(study).problem(partition) is None, "earlier versions kept no sizes"
    file.unlink()
    lost = "has lost its file clusters_7/clustering.safetensors"
    assert Standing(study).problem(partition) == lost
    with pytest.raises(NotReadyError, match=f"needs {re.escape(str(partition))}, which {lost}"):
        require_upstream(study, cluster_rows.at(n=7))


def test_the_digest_sees_names_and_contents_but_not_the_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    digest = content_digest([a, b])
    assert content_digest([b, a]) == digest
    b.write_text("3")
    assert content_digest([a, b]) != digest
    a.write_text("2")
    b.write_text("1")
    assert content_digest([a, b]) != digest


def test_labels_of_another_n_leave_a_clustering_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    labels = {"method": "labels", "labels_file": "labels_{n}.npy"}
    few = small_study(clustering=labels, n_clusters=(6,), selection={})
    more = small_study(clustering=labels, selection={})
    (tmp_path / "labels_6.npy").write_bytes(b"six")
    partition = clustering.at(n=6)
    write_record(few, partition, "content", [], {})
    (tmp_path / "labels_7.npy").write_bytes(b"seven")
    assert Standing(few)._direct_problem(partition) is None
    assert Standing(more)._direct_problem(partition) is None
    (tmp_path / "labels_6.npy").write_bytes(b"other")
    assert Standing(more)._direct_problem(partition) == (
        "was made before a change: clustering file labels_6.npy changed"
    )
