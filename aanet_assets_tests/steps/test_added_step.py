"""A module that is put beside those in `aanet_assets/steps` is a step like any other."""

import importlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import dagster as dg
import pandas as pd
import pytest

from aanet_assets import steps
from aanet_assets.cli.prune import owner
from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets.orchestration.materialise import run_step
from aanet_assets.orchestration.pipeline import steps_of, tables_of
from aanet_assets.steps.inputs import CORPUS, corpus
from aanet_assets.storage import warehouse
from aanet_assets.storage.records import Standing
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.outputs import read
from aanet_assets_tests.small import small_study

LETTERS = """
from aanet_assets.steps.columns import N_CLUSTERS_TOTAL
from aanet_assets.steps.inputs import CORPUS, corpus
from aanet_assets.storage.files import write_text
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, integer, text
from aanet_assets.study.layout import File

LETTERS = Table(
    "letters", "The corpus's letters.", N_CLUSTERS_TOTAL, text("letter", "It."),
    integer("times", "How often it's there."),
)
LIST = File("clusters_{n}/letters_n{n}.txt")


@step(ByN, group="5_letters", kinds=("pandas",), reads=(corpus,), settings=("rows.max_rows",),
      tables=(LETTERS,), files=(LIST,))
def letters(run: Run[ByN]) -> Outcome:
    '''How often the most frequent letters are in the corpus.'''
    import pandas as pd

    words = pd.read_parquet(run.path(CORPUS))["text"].str.split().explode()
    times = words.value_counts().head(run.study.rows.max_rows)
    table = times.rename_axis("letter").reset_index(name="times").assign(n_clusters_total=run.at.n)
    write_text(run.path(LIST), " ".join(table["letter"]))
    return Outcome([run.path(LIST), run.write(LETTERS, table)])


@letters.checks(some="There are letters.")
def _(run: Run[ByN]) -> list[Finding]:
    found = len(run.read(LETTERS))
    return [Finding("some", found > 0, f"there are {found} letters")]
"""


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Puts a module beside those in `aanet_assets/steps`."""
    folder, added = tmp_path / "steps", []

    def write(name: str, source: str) -> ModuleType:
        folder.mkdir()
        (folder / f"{name}.py").write_text(source)
        monkeypatch.setattr(steps, "__path__", [*steps.__path__, str(folder)])
        added.append(f"{steps.__name__}.{name}")
        return importlib.import_module(added[-1])

    yield write
    for name in added:
        del sys.modules[name]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The small study in a project's folder of its own, where nothing is made yet."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    for name in ("AANET_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(home)
    return small_study()


def test_a_step_of_ones_own(study: Study, add: Callable[..., ModuleType]) -> None:
    root, before = study.paths.root, steps_of(study)
    files = ["clusters_7/letters_n7.txt", "tables/letters/n7.parquet", "records/letters/n7.json"]
    assert [owner(name) for name in files] == [None, None, None]
    letters = add("letters", LETTERS).letters
    assert [step for step in steps_of(study) if step not in before] == [letters]

    defs = build_defs(study)
    asset = defs.resolve_asset_graph().get(dg.AssetKey(["small", "letters"]))
    assert asset.parent_keys == {dg.AssetKey(["small", "corpus"])}
    assert (asset.group_name, asset.description) == ("small_5_letters", letters.work.__doc__)
    assert asset.partitions_def is not None
    assert asset.partitions_def.get_partition_keys() == ["6", "7"]
    assert [key.name for key in asset.check_keys] == ["some"]

    few = small_study(rows={"max_rows": 5})
    with dg.DagsterInstance.get() as instance:
        driver = Driver(study, instance)
        for partition in plan(study, until="letters"):
            driver.materialise(partition)
        assert instance.get_materialized_partitions(asset.key) == {"6", "7"}
        for partition in plan(few, until="letters", n_clusters=[7]):
            problem = Standing(few).problem(partition)
            if partition.step is corpus:
                assert problem is None
            else:
                assert "rows.max_rows was 2000, is now 5" in str(problem)
                Driver(few, instance).materialise(partition)
    for name in files:
        assert (root / name).is_file(), name
        assert owner(name) == letters.at(n=7)

    words = pd.read_parquet(CORPUS.under(root))["text"].str.split().explode().value_counts()
    assert len(words) > 5
    asked = "SELECT n_clusters_total, letter, times FROM letters ORDER BY ALL"
    assert warehouse.query(study.paths, tables_of(study), asked).fetchall() == sorted(
        (n, *row) for n, rows in ((6, words), (7, words[:5])) for row in rows.items()
    )
    assert set((root / files[0]).read_text().split()) == set(words[:5].index)


def test_the_guides_step_does_what_it_says(copied: Study, add: Callable[..., ModuleType]) -> None:
    guide = (PROJECT / "docs/extension.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    added = add("cluster_activity", source)
    partition = added.cluster_activity.at(n=7)
    list(run_step(copied, partition))
    assert Standing(copied).problem(partition) is None
    shares = read(copied, partition, added.CLUSTER_ACTIVITY)["share"]
    asked = """
        SELECT active_tokens / (SELECT sum(counted_tokens) FROM cache_shards WHERE use = 'training')
        FROM clusters WHERE n_clusters_total = 7 ORDER BY cluster_id
    """
    expected = warehouse.query(copied.paths, tables_of(copied), asked).fetchall()
    assert shares.tolist() == pytest.approx([share for (share,) in expected])
