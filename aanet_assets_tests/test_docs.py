"""What the pages of the docs tell people to type: commands that there are, and code that runs."""

import re
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from aanet_assets import defs as studies
from aanet_assets.cli.commands import app
from aanet_assets.orchestration.studies import load_study, study_names
from aanet_assets.science.activations import own_sae
from aanet_assets.science.toy.components import Component
from aanet_assets.science.toy.process import UnionProcess
from aanet_assets.science.toy.process_file import process_of
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT, said

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
OWN = {"mine", "mine_subspaces", "my_module", "nemo", "benchmarks", "toy_kmeans"}
"""Studies that a page has its readers write."""


def blocks(page: Path, language: str) -> list[str]:
    """What stands between fences."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words of each line of a page's `bash` blocks, without comments."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def takes(words: list[str]) -> None:
    """Parse an `aanet` command, and do not run it."""
    group: Any = typer.main.get_command(app)
    study = group.commands[words[1]].make_context(words[1], words[2:]).params.get("study")
    assert study is None or study.split("/")[0] in {*study_names(), *OWN, "STUDY"}, study


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_ones_that_there_are(page: Path) -> None:
    targets = re.findall(r"^([a-z0-9]+):", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE)
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets, words
        elif words[0] == "aanet":
            takes(words)


_TESTED_ALONE = {"compare", "init", "serve", "train-toy"}
"""Commands that want more than one finished study."""
_NEED_A_HUB = {"gpt2_small", "gemma_2_9b"}


def test_commands_do_what_they_say_with_a_finished_study(
    copied: Study, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that need a hub, as if the page's study were the small one."""
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    name, done = study_module("documented"), set()
    for words in (words[1:] for page in PAGES for words in commands(page) if words[0] == "aanet"):
        if words[0] in _TESTED_ALONE or (words[0] == "run" and words[1] in _NEED_A_HUB):
            continue
        # Of the small study's clusterings one is of 7.
        numbers = dict.fromkeys(("1", "32"), "7")
        known = {**dict.fromkeys({*study_names(), *OWN} - _NEED_A_HUB, name), **numbers}
        command = tuple(known.get(word, word) for word in words)
        if command[0] == "project":
            # Of the small study's clusters this one is selected.
            command = (*command[:3], "0", *command[4:])
        if command not in done:
            done.add(command)
            said(*command, code=0)
    assert {command[0] for command in done} >= {"run", "project", "status", "plan", "review"}


def test_what_needs_a_hub_says_so() -> None:
    for line in "\n".join(blocks(PROJECT / "docs/gallery.md", "bash")).splitlines():
        assert ("gpt2" in line or "gemma" in line) == ("needs a hub" in line), line


def test_the_studies_of_the_readme_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = PROJECT / "README.md"
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    mine, other = [
        code for code in blocks(readme, "python") if 'name="mine"' in code or "mine." in code
    ]
    for name, code in (("mine", mine), ("mine_subspaces", other)):
        (tmp_path / f"{name}.py").write_text(code)
        # What is loaded here goes with the test.
        monkeypatch.setitem(sys.modules, f"{studies.__name__}.{name}", None)
        del sys.modules[f"{studies.__name__}.{name}"]
    first, second = (load_study(name).study for name in ("mine", "mine_subspaces"))
    assert second.activations_name == first.name
    assert (second.n_clusters, second.ks) == (first.n_clusters, first.ks)
    assert second.clustering.method != first.clustering.method
    (tmp_path / "mine_subspaces.py").unlink()
    del sys.modules[f"{studies.__name__}.mine_subspaces"]
    (yaml,) = [code for code in blocks(readme, "yaml") if "name: mine_subspaces" in code]
    (tmp_path / "mine_subspaces").mkdir()
    (tmp_path / "mine_subspaces" / "defs.yaml").write_text(yaml)
    assert load_study("mine_subspaces").study == second


def test_the_process_of_the_docs_filters_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    (code,) = [b for b in blocks(PROJECT / "docs/truth.md", "python") if "class MyProcess" in b]
    (tmp_path / "my_module.py").write_text(code)
    own = process_of("my_module:MyProcess")
    move, emit = np.array([[0.95, 0.05], [0.05, 0.95]]), np.array([[0.9, 0.1], [0.1, 0.9]])
    chain = Component("two", np.einsum("iv,ij->vij", emit, move), np.ones(2), np.full(2, 0.5), 2)
    exact = UnionProcess([chain], 0.0)
    letters = own.sample(5, 12, seed=1)
    np.testing.assert_allclose(own.predictive(letters), exact.predictive(letters))
    (found,), (expected,) = own.targets(letters).factors, exact.targets(letters).factors
    np.testing.assert_allclose(found.values, expected.values)
    assert found.true_k == 2
    many = own.sample(4_000, 30, seed=2)
    # Equal neighbours: 0.82 = P(equal states) of 0.9^2 + 0.1^2, and the rest of 2 x 0.9 x 0.1.
    share = (many[:, 1:] == many[:, :-1]).mean()
    assert share == pytest.approx(0.95 * 0.82 + 0.05 * 0.18, abs=0.005)


def test_the_sae_of_the_docs_is_trained(
    copied: Study, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = blocks(PROJECT / "docs/train_sae.md", "python")
    for old, new in (
        ('"mine"', repr(study_module("documented"))),
        ("sae_tokens=400_000", "sae_tokens=8_192"),
        ("sae_steps=1_500", "sae_steps=60"),
        ("data/inputs/my_sae", "my_sae"),
    ):
        assert old in code
        code = code.replace(old, new)
    monkeypatch.setattr(own_sae, "_FRESH", 2_000)
    monkeypatch.setattr(own_sae, "torch_threads", nullcontext)
    exec(compile(code, "train_sae.md", "exec"), {})
    assert Path("my_sae/cfg.json").is_file()
