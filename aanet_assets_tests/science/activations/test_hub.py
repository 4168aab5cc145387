"""Everything of one study comes from one commit of a hub, however the hub moves on."""

import shutil
from pathlib import Path

import huggingface_hub
import pandas as pd
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RevisionNotFoundError

from aanet_assets.orchestration.materialise import run_step
from aanet_assets.orchestration.pipeline import partitions_of, steps_of
from aanet_assets.science.activations.corpus import load_tokenizer
from aanet_assets.science.activations.hub import commit_of, newest, require_commit
from aanet_assets.science.activations.preflight import preflight
from aanet_assets.science.activations.size import config_of
from aanet_assets.steps.activations import SAE_FIT, activation_cache, at_commits, sae_fit
from aanet_assets.steps.vertices import vertex_samples
from aanet_assets.storage.obeyed import settings_digest
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, Partition
from aanet_assets.study.settings import CorpusSettings, SaeSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import read
from aanet_assets_tests.small import pretend, small_study

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was downloaded of a model with two commits; there is no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--maker--model"
    for commit in (OLD, NEW):
        shutil.copytree(home / "data/inputs/toy/model", folder / "snapshots" / commit)
        config = folder / "snapshots" / commit / "config.json"
        config.write_text(config.read_text().replace("{", f'{{"made_at": "{commit}", ', 1))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(OLD)
    return folder


@pytest.fixture
def study(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("AANET_HOME", str(tmp_path / "project"))
    study = small_study(
        model="maker/model",
        sae={"release": "maker/sae", "id": "layer"},
        corpus=CorpusSettings(dataset="maker/texts"),
        truth=None,
        selection={},
    )
    for repository in ("models--maker--sae", "datasets--maker--texts"):
        (cache.parent / repository / "snapshots" / OLD).mkdir(parents=True)
        (cache.parent / repository / "refs").mkdir()
        (cache.parent / repository / "refs" / "main").write_text(OLD)
    return study


def make(study: Study, partition: Partition, monkeypatch: pytest.MonkeyPatch) -> Study:
    """What a partition's work is given as its study; the work writes what `sae_fit` writes."""
    given = []

    def work(run: Run) -> Outcome:
        given.append(run.study)
        if partition.step is not sae_fit:
            return Outcome([])
        row = {"sae_id": "x", "tokens": 1, "l0": 1.0, "unexplained": 0.0, "bytes_per_token": 1.0}
        frame = pd.DataFrame([dict.fromkeys(SAE_FIT.names) | row | run.study.revisions])
        return Outcome([run.write(SAE_FIT, frame)])

    def check(run: Run) -> list[Finding]:
        given.append(run.study)
        return []

    monkeypatch.setattr(partition.step, "work", work)
    monkeypatch.setattr(partition.step, "check", check)
    monkeypatch.setattr(partition.step, "afterwards", None)
    list(run_step(study, partition))
    at_work, at_check = given
    assert at_check == at_work
    return at_work


def test_what_is_loaded_is_of_the_revision(cache: Path) -> None:
    study = small_study(model="maker/model")
    assert config_of(study).made_at == OLD
    assert config_of(study.model_copy(update={"revision": NEW})).made_at == NEW
    (cache / "snapshots" / OLD / "tokenizer.json").unlink()
    (cache / "snapshots" / OLD / "tokenizer_config.json").unlink()
    assert load_tokenizer(study.model_copy(update={"revision": NEW})).get_vocab()


def test_a_hub_that_moves_on_changes_nothing_until_the_fit_is_made_anew(
    study: Study, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, shard = sae_fit.at(), activation_cache.at(shard=0)
    at_fit = make(study, fit, monkeypatch)
    assert (at_fit.revision, at_fit.corpus.revision, at_fit.sae.revision) == (OLD, OLD, OLD)
    row = read(study, fit, SAE_FIT).iloc[0]
    assert {row[f"{kind}_revision"] for kind in ("model", "corpus", "sae")} == {OLD}
    (cache / "refs" / "main").write_text(NEW)
    assert config_of(study).made_at == NEW
    at_shard = make(study, shard, monkeypatch)
    assert at_shard == at_fit
    assert config_of(at_shard).made_at == OLD
    for partition in partitions_of(study):
        if partition != fit:
            pretend(study, partition, f"content of {partition}")
    assert make(study, vertex_samples.at(n=7), monkeypatch).revision == OLD
    assert make(study, fit, monkeypatch).revision == NEW
    assert at_commits(study, fitted=True).revision == NEW


def test_a_revision_that_is_given_is_resolved_and_counts(study: Study, cache: Path) -> None:
    (cache / "refs" / "tag").write_text(NEW)
    tagged = study.model_copy(update={"revision": "tag"})
    assert newest(tagged).revision == NEW
    different = {
        step.name
        for step in steps_of(study)
        if settings_digest(study, step) != settings_digest(tagged, step)
    }
    assert different == {
        "sae_fit", "activation_cache", "token_groups", "predictions", "vertex_samples",
    }  # fmt: skip


def test_the_hub_is_asked_first_and_a_commit_is_never_asked_for(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(api, repository: str, *, repo_type: str, revision: str | None):
        asked.append((repository, repo_type, revision))
        return huggingface_hub.ModelInfo(id=repository, sha=NEW)

    monkeypatch.setattr(HfApi, "repo_info", answer)
    assert newest(study).corpus.revision == NEW
    assert asked == [
        ("maker/model", "model", None),
        ("maker/texts", "dataset", None),
        ("maker/sae", "model", None),
    ]
    assert commit_of("maker/model", "model", OLD) == OLD
    assert len(asked) == 3


def test_a_revision_that_there_is_not_is_one_sentence(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx2

    answer = httpx2.Response(404, request=httpx2.Request("GET", "https://huggingface.co"))

    def refuse(api, repository: str, **named):
        raise RevisionNotFoundError("404", response=answer)

    monkeypatch.setattr(HfApi, "repo_info", refuse)
    with pytest.raises(ValueError, match=r"the model maker/model has no revision 'v9' on the hub"):
        newest(study.model_copy(update={"revision": "v9"}))


def test_nothing_downloaded_and_no_network(cache: Path) -> None:
    with pytest.raises(ConnectionError, match=r"the model maker/other could not be loaded"):
        commit_of("maker/other", "model", None)


def test_an_sae_that_moved_on_is_refused(study: Study, cache: Path) -> None:
    sae = newest(study).sae
    require_commit(sae)
    (cache.parent / "models--maker--sae/refs/main").write_text(NEW)
    (cache.parent / "models--maker--sae/snapshots" / NEW).mkdir()
    with pytest.raises(ValueError, match=rf"at commit {OLD} and maker/sae is at {NEW} by now"):
        require_commit(sae)


def test_a_study_without_a_hub_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HfApi, "repo_info", None)
    study = small_study()
    assert newest(study) == at_commits(study, fitted=True) == study


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"revision": "main"}, "revision"),
        ({"corpus": {"files": "x/*.txt", "revision": "main"}}, r"corpus\.revision"),
        ({"corpus": {"dataset": "data/inputs", "revision": "main"}}, r"corpus\.revision"),
        ({"sae": {"directory": "data/inputs/toy/sae", "revision": "main"}}, r"sae\.revision"),
    ],
)
def test_a_revision_of_what_is_here_is_refused(changes: dict, name: str) -> None:
    message = rf"small': {name} is 'main', and .* is on this machine, where there is one state only"
    with pytest.raises(ValueError, match=message):
        preflight(small_study(**changes))


def test_a_release_and_a_revision(study: Study) -> None:
    assert SaeSettings(release="maker/sae", id="layer", revision=OLD).name == "maker/sae/layer"
