"""What the commands answer, and that a user's mistake never shows a stack trace."""

import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.code_pointer import load_python_file
from typer.testing import CliRunner

from aanet_assets import defs as studies
from aanet_assets.cli import commands as cli
from aanet_assets.orchestration.pipeline import all_steps, partitions_of
from aanet_assets.steps.aanets import EXPORT, STACK, aanet_models
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.records import MISSING, Standing, record_path
from aanet_assets.storage.step import Finding
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT, Finished, problems, running, said
from aanet_assets_tests.small import small_study
from aanet_assets_tests.storage.test_locks import holder


def test_run_again_finds_everything_there(finished: Finished, study_module) -> None:
    output = said("run", study_module("small_again"), code=0)
    assert re.search(r"vertex_samples 0 made, 2 already there", output)
    assert "What was recovered of the truth at n_clusters 7" in output
    assert "Selected clusters" in output
    assert "data/small/selected_clusters/n7" in output


def test_status_counts_what_is_there_and_says_why_something_is_stale(
    finished: Finished, study_module
) -> None:
    output = said("status", study_module("small_status"), code=0)
    assert re.search(r"aanet_models │ 6 │ 0 │ 0", output)
    changed = study_module("small_changed", "vertices={'distance': 0.4}")
    result = CliRunner().invoke(cli.app, ["status", changed])
    assert max(map(len, result.output.splitlines())) <= 100
    output = re.sub(r"[│\s]+", " ", result.output)
    why = "was made before a change: vertices.distance was 0.5, is now 0.4"
    assert f"vertex_samples 0 0 2 {why}" in output
    assert "review_page 0 0 2 is made from vertex_samples [n_clusters 6]" in output


def test_files_that_were_deleted_are_named_and_made_again(copied: Study, study_module) -> None:
    name = study_module("small_deleted")
    file = EXPORT.under(copied.paths.root, n=7, cluster_id=2, k=3)
    content = file.read_bytes()
    file.unlink()
    output = re.sub(r"[│\s]+", " ", said("status", name, code=0))
    assert "aanet_exports 5 0 1 has lost its file clusters_7/aanet_cluster_2_k3.pt" in output
    output = said("run", name, code=0)
    assert re.search(r"aanet_exports 1 made, 5 already there", output)
    assert file.read_bytes() == content
    assert problems(copied) == []


def test_a_study_in_a_module_of_another_name_is_refused(
    study_module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = study_module("original", "name='mine'")
    file = Path(studies.__path__[-1]) / f"{name}.py"
    copy = file.with_name("mine_too.py")
    copy.write_text(file.read_text())
    words = (
        "the module aanet_assets.defs.mine_too builds a study named 'mine', whose folder "
        "data/mine is that of the module mine: two studies in one folder would overwrite each "
        "other. Set name='mine_too' in it, or rename the module to mine if there is no other of "
        "that name"
    )
    for command in ("status", "run", "plan", "doctor", "prune"):
        assert f"error {words} " in said(command, "mine_too", code=1)
    # As Dagster loads a file of a workspace.
    with pytest.raises(ValueError, match=re.escape(words.replace("aanet_assets.defs.", ""))):
        load_python_file(str(copy), None)
    assert load_python_file(str(file), None)
    copy.write_text(f"from {studies.__name__}.{name} import defs, study")
    assert "builds a study named 'mine'" in said("status", "mine_too", code=1)


def test_two_modules_of_one_name_are_refused(study_module, tmp_path: Path) -> None:
    name = study_module("twice", "name='twice'")
    package = Path(studies.__path__[-1]) / name / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    output = said("status", name, code=1)
    assert f"of the study 'twice', {package.parent}.py and {package}, whose results" in output


def test_sql_prints_a_table(finished: Finished, study_module) -> None:
    name = study_module("small_sql")
    query = (
        "SELECT n_clusters_total AS n, count(*) AS rows FROM aanet_metrics GROUP BY ALL ORDER BY 1"
    )
    output = said("sql", name, query, code=0)
    assert "│ 6 │ 18 │" in output
    assert "│ 7 │ 21 │" in output


def test_plan_prints_estimates_and_says_what_it_cannot_know(
    finished: Finished, study_module
) -> None:
    output = said("plan", study_module("small_plan"), code=0)
    assert re.search(r"tokens │ 76,500 │ each once", output)
    unknown = study_module("small_unknown", "model='nobody/nothing'")
    output = said("plan", unknown, code=1)
    assert "error the model 'nobody/nothing' is not on this machine" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere"], "there is no study 'nowhere'; there are: gemma_2_9b, "),
        (["run", "{study}", "--until", "everything"], "has no asset 'everything'; it has corpus"),
        (["run", "{study}", "--n-clusters", "9"], "n_clusters 9 is not in study 'small'"),
        (["run", "{study}", "--k", "9"], "k 9 is not in study 'small', which has (2, 3, 4)"),
        (
            ["sql", "{study}", "SELECT nothing FROM nowhere"],
            "Table with name nowhere does not exist! Did you mean",
        ),
        (["sql", "{study}", "SELECT nothing FROM nowhere"], "The tables are: sae_fit, "),
        (["sql", "{study}", "SELEC 1"], 'error Parser Error: syntax error at or near "SELEC" '),
        (["sql", "{study}", "SELECT CAST('x' AS INTEGER)"], "Could not convert string 'x'"),
        (["sql", "{study}", "DROP TABLE aanet_metrics"], "read-only"),
    ],
)
def test_mistakes_get_one_clear_message(
    finished: Finished, study_module, arguments: list[str], message: str
) -> None:
    name = study_module("small_mistakes")
    assert message in said(*(a.format(study=name) for a in arguments), code=1)


def test_a_study_with_wrong_values_says_which(study_module) -> None:
    name = study_module("small_wrong", "ks=(1, 2), clustering={'method': 'dbscan'}")
    output = said("run", name, code=1)
    assert "has a wrong value" in output
    assert "ks.0: Input should be greater than or equal to 2 (it is 1)" in output
    assert "clustering.method: Input should be 'kmeans'" in output


@pytest.mark.parametrize(
    ("picks", "sentence"),
    [
        (
            "{'manual_clusters': '9:0'}",
            "selection.manual_clusters names n_clusters 9; this study has n_clusters 6, 7",
        ),
        (
            "{'manual_k': '7:7=3'}",
            "selection.manual_k names cluster 7 of n_clusters 7; its ids run from 0 to 6",
        ),
        (
            "{'manual_clusters': '7-3'}",
            "selection.manual_clusters: '7-3' is not of the form 'n_clusters:id,id', as in "
            "'512:23,45' (it is '7-3')",
        ),
    ],
)
def test_a_wrong_pick_is_one_sentence(study_module, picks: str, sentence: str) -> None:
    name = study_module("small_picks", f"selection={picks}")
    output = said("status", name, code=1)
    assert output == f"error study 'small' has a wrong value. {sentence} "


def test_a_setting_that_does_not_exist_is_one_sentence(study_module) -> None:
    name = study_module("small_unknown", "aanet={'mode': 'span'}")
    sentence = "aanet.mode: there is no such setting: correct its name, or take it out"
    expected = f"error study 'small' has a wrong value. {sentence} (it is 'span') "
    assert said("status", name, code=1) == expected


def test_settings_that_do_not_go_together_are_one_sentence(study_module) -> None:
    name = study_module("small_group", "clustering={'method': 'labels'}")
    expected = "clustering: labels_file goes with method 'labels' and with no other "
    assert said("status", name, code=1) == f"error study 'small' has a wrong value. {expected}"


def test_too_few_ks_are_said_at_the_start(study_module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aanet_assets.cli.running._drive", lambda driver, todo, workers: None)
    fewer = "name='fewer', ks=(2, 3), selection={}"
    name = study_module("small_fewer", fewer)
    output = said("run", name, "--until", "corpus", code=0)
    assert "warning ks has the 2 values 2, 3, and an elbow needs 3: every elbow will be" in output
    name = study_module("small_enough", "name='enough', selection={}")
    assert "warning" not in said("run", name, "--until", "corpus", code=0)


def test_a_study_that_cannot_work_is_refused_before_any_work(study_module, home: Path) -> None:
    name = study_module("small_lost", "name='lost', model='data/inputs/nowhere/model'")
    output = said("run", name, code=1)
    assert "nowhere/model is not there" in output
    assert not (home / "data" / "lost").exists()


def test_a_failure_on_the_way_is_one_message_too(study_module, tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "labels_6.npy", np.zeros(31, dtype=np.int64))
    name = study_module(
        "small_failing",
        f"name='failing', n_clusters=(6,), selection={{}}, "
        f"corpus={{'files': 'data/failing/corpus/*.parquet'}}, "
        f"clustering={{'method': 'labels', 'labels_file': {str(tmp_path / 'labels_{n}.npy')!r}}}",
    )
    output = said("run", name, "--until", "clustering", code=1)
    assert re.search(r"clustering \[n_clusters 6\]: labels_file .* has shape \(31,\)", output)


def test_a_check_that_fails_is_one_message_too(
    study_module, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding("complete", False, "4,499 documents, 4,500 expected")
    monkeypatch.setattr(corpus, "check", lambda run: [finding])
    name = study_module("small_refused", "name='refused'")
    output = said("run", name, "--until", "corpus", code=1)
    assert re.search(
        r"error corpus: check complete failed: 4,499 documents, 4,500 expected\. The partition "
        r"does not count, and nothing reads it; what was written is left in "
        rf"{home}/data/refused/corpus \(run [0-9a-f]{{8}}\) $",
        output,
    )


def test_what_a_check_warns_of_is_printed(study_module, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding(name, True, "fine") for name in corpus.blocking]
    found.append(Finding("odd", False, "7 [odd] ones", blocking=False))
    monkeypatch.setattr(corpus, "check", lambda run: found)
    monkeypatch.setattr(corpus, "warning", {"odd": "Nothing is odd."})
    name = study_module("small_warned", "name='warned'")
    output = said("run", name, "--until", "corpus", code=0)
    assert "! corpus: check odd: 7 [odd] ones ✓ corpus 1 made" in output


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """Processes start as a script's shell starts those it puts into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_the_background")
def test_ctrl_c_leaves_no_half_file_and_the_next_run_goes_on(study_module, home: Path) -> None:
    name = study_module(
        "small_stopped",
        "name='stopped', n_clusters=(6,), selection={}, "
        "corpus={'files': 'data/stopped/corpus/*.parquet'}",
    )
    with running(name) as process:
        cache = home / "data/stopped/records/activation_cache"
        while not list(cache.glob("*.json")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert f"Stopped; nothing is half written. To go on: aanet run {name}" in output
    assert not list((home / "data/stopped").rglob("*.tmp"))
    assert not (home / "data/stopped/records/vertex_samples").exists()
    output = said("run", name, "--until", "activation_cache", code=0)
    assert re.search(r"corpus 0 made, 1 already there", output)


def test_sql_before_anything_was_run(study_module) -> None:
    name = study_module("small_empty", "name='empty'")
    assert "nothing has been computed. Run: aanet run" in said("sql", name, "SELECT 1", code=1)


def readme_queries() -> list[str]:
    text = (PROJECT / "README.md").read_text()
    return re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)


def test_the_readme_has_six_queries() -> None:
    assert len(readme_queries()) == 6


def test_the_readme_names_every_table() -> None:
    text = (PROJECT / "README.md").read_text()
    named = text[text.index("\nTables: ") : text.index("\n## In Dagit")]
    tables = {table.name for step in all_steps() for table in step.tables}
    assert set(re.findall(r"`(\w+)`", named)) - {"null_cluster"} == tables


@pytest.mark.parametrize("place", range(6))
def test_the_readmes_queries_answer(finished: Finished, study_module, place: int) -> None:
    output = said("sql", study_module(f"small_readme_{place}"), readme_queries()[place], code=0)
    assert output.count("│") > 4, "an answer with rows"


def test_two_runs_of_the_same_partition(copied: Study, study_module) -> None:
    name, partition = study_module("small_twice"), aanet_models.at(n=7, k=3)
    record_path(copied, partition).unlink()
    before = STACK.under(copied.paths.root, n=7, k=3).stat().st_mtime_ns
    with holder(copied.paths.root.parents[1]) as process:
        output = said("run", name, code=1)
        words = "error aanet_models [n_clusters 7, k 3] of study 'small' is being made right now"
        assert f"{words} by process {process.pid}" in output
        assert STACK.under(copied.paths.root, n=7, k=3).stat().st_mtime_ns == before
    assert Standing(copied).problem(partition) == MISSING


@pytest.fixture
def folder_of_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for study modules beside the shipped ones."""
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    return tmp_path


def test_a_module_that_does_not_load_is_one_sentence(folder_of_studies: Path) -> None:
    """With its place, and without a word of Python's own stack."""
    small = "from aanet_assets_tests.small import small_study\nstudy = small_study(name='bad_defs')"
    for module, text, message in (
        ("bad_syntax", "study = (\n", r"cannot be loaded: '\(' was never closed .*, line 1\)"),
        ("bad_import", "\nimport nowhere\n", r"ModuleNotFoundError: No module .*py, line 2\)"),
        ("bad_value", "study = {}['x']\n", r"KeyError: 'x' \(.*bad_value\.py, line 1\)"),
        ("bad_number", "int('x')", r"ValueError: invalid literal .*bad_number\.py, line 1\)"),
        ("bad_end", "raise SystemExit('no')\n", r"SystemExit: no \(.*bad_end\.py, line 1\)"),
        ("bad_empty", "", r"has no `study`: it needs a line `study = Study\(\.\.\.\)`"),
        ("bad_defs", small, r"has no `defs`: it needs a line"),
        ("bad_type", "study = 3\n", r"has a int as its `study`"),
    ):
        (folder_of_studies / f"{module}.py").write_text(text)
        output = said("status", module, code=1)
        assert re.match(rf"error (the module of )?study '{module}' .*{message}", output), output


@pytest.mark.usefixtures("finished")
def test_list_counts_what_is_shared(study_module) -> None:
    study_module("listed_sharing")
    (Path(studies.__path__[-1]) / "on_small.py").write_text(
        "from aanet_assets.orchestration.build import build_defs\n"
        "from aanet_assets_tests.small import small_study\n"
        "study = small_study().sharing('on_small', n_clusters=(6,))\n"
        "defs = build_defs(study)\n"
    )
    study = small_study().sharing("on_small", n_clusters=(6,))
    wanted = list(partitions_of(study))
    shared = sum(partition.step.of_activations for partition in wanted)
    assert 0 < shared < len(wanted)
    pattern = rf"on_small │[^│]*│ {shared} of {len(wanted)} "
    assert re.search(pattern, said("list", code=0))


def test_list_names_all_studies_and_one_that_is_broken_hides_no_other(
    home: Path, study_module, tmp_path: Path
) -> None:
    study_module("listed", "name='listed', description='Hört [zu]'")
    (Path(studies.__path__[-1]) / "small_broken.py").write_text("nonsense\n")
    records = home / "data/listed/records/clustering"
    records.mkdir(parents=True)
    for name in ("n7", "n9"):
        (records / f"{name}.json").write_text("{}")
    output = said("list", code=0)
    assert re.search(r"small_broken │ study 'small_broken' cannot be loaded: NameError", output)
    assert re.search(r"listed │ Hört \[zu\] │ 1 of \d+ ", output)
    assert re.search(r"toy │ Seven known components", output)
    shutil.rmtree(home / "data/listed")
