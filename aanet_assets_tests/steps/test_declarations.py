"""Steps that do not fit together are refused when they are gathered, and both parties are named."""

import ast
import inspect
import textwrap
from typing import Any

import pytest

from aanet_assets.orchestration.pipeline import _in_order, _require_sound, all_steps
from aanet_assets.steps.columns import N_CLUSTERS_TOTAL
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.partitions import At, ByN, ByNK, ByShard, Whole
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome, Step, step
from aanet_assets.storage.table import Table, integer
from aanet_assets.study.layout import File


def declared(name: str, partitions: type[At] = Whole, **fields: Any) -> Step:
    """A step that does nothing, with a check."""

    def work(run: Run) -> Outcome:
        return Outcome([])

    work.__name__ = name
    made = step(partitions, group="9", kinds=(), **fields)(work)
    made.checks(fine="All is well.")(lambda run: [])
    return made


def of(table: str, *columns: str) -> Table:
    return Table(table, "Of whole numbers.", *(integer(name, "One.") for name in columns))


def refusal(*added: Step) -> str:
    """What is said of steps that are put beside those that there are."""
    with pytest.raises(ValueError, match=r"\bsteps?\b") as refused:
        _require_sound([*all_steps(), *added])
    return str(refused.value)


def lines_of(step: Step) -> int:
    """Lines of a step's work, but for what it says of itself and imports."""
    (work,) = ast.parse(textwrap.dedent(inspect.getsource(step.work))).body
    assert isinstance(work, ast.FunctionDef)
    says_and_imports = (ast.Import, ast.ImportFrom, ast.Expr)
    own = [each for each in work.body if not isinstance(each, says_and_imports)]
    calls = [each for each in work.body[1:] if isinstance(each, ast.Expr)]
    return sum((each.end_lineno or each.lineno) - each.lineno + 1 for each in own + calls)


@pytest.mark.parametrize("step", all_steps(), ids=lambda step: step.name)
def test_a_step_reads_calls_what_does_its_work_and_writes(step: Step) -> None:
    """What computes is in `science`, where it can be called without a study."""
    assert lines_of(step) <= 15


def test_what_fits_is_not_refused() -> None:
    _require_sound(
        [
            *all_steps(),
            declared(
                "extra",
                ByNK,
                reads=(corpus,),
                settings=("rows", "rows.threshold", "local.package", "ks"),
                tables=(of("extra", "n_clusters_total", "k"),),
                files=(
                    File("clusters_{n}/extra_k{k}_{what}.txt"),
                    File("clusters_{n}/k{k}/clustering.safetensors"),
                ),
            ),
        ]
    )


def test_a_step_that_reads_what_is_no_step() -> None:
    stray = declared("stray")
    for reads in ((corpus, stray), (stray.part(lambda study: study.shards),)):
        assert refusal(declared("extra", reads=reads)) == (
            "the step extra reads stray, which is no step of any module in aanet_assets/steps: "
            "move it there, or take it out of `reads`"
        )


@pytest.mark.parametrize("setting", ["colour", "rows.colour", "ks.least", "local.colour", ""])
def test_a_setting_that_no_study_has(setting: str) -> None:
    assert refusal(declared("extra", settings=("rows", setting))) == (
        f"the step extra obeys the setting {setting}, which no study has; settings are fields of "
        "Study or, as group.field, of one of its groups"
    )


def test_a_table_without_columns() -> None:
    said = refusal(declared("extra", tables=(of("empty"),)))
    assert said == "the table empty of the step extra has no columns"


@pytest.mark.parametrize(
    ("partitions", "columns", "lacking"),
    [
        (ByN, ["n"], "n_clusters_total"),
        (ByNK, ["n_clusters_total"], "k"),
        (ByNK, ["k"], "n_clusters_total"),
        (ByNK, ["aanet_k"], "n_clusters_total"),
        (ByShard, ["n_clusters_total"], "shard"),
    ],
)
def test_a_table_whose_rows_do_not_say_of_which_partition_they_are(
    partitions: type[At], columns: list[str], lacking: str
) -> None:
    assert refusal(declared("extra", partitions, tables=(of("rows", *columns),))) == (
        f"the table rows of the step extra lacks the column {lacking}, by which rows of one "
        "partition are told from those of another"
    )


@pytest.mark.parametrize(
    ("partitions", "template", "lacking"),
    [
        (ByN, "extra.txt", "n"),
        (ByNK, "clusters_{n}/extra.txt", "k"),
        (ByShard, "extra/{name}.txt", "shard"),
    ],
)
def test_a_file_whose_name_does_not_say_of_which_partition_it_is(
    partitions: type[At], template: str, lacking: str
) -> None:
    assert refusal(declared("extra", partitions, files=(File(template),))) == (
        f"the file {template} of the step extra has no {{{lacking}}} in its name, so that "
        "partitions would overwrite each other's"
    )


def test_a_step_without_checks() -> None:
    unchecked = declared("extra")
    unchecked.check = None
    said = refusal(unchecked)
    assert said == "the step extra has no checks: declare them with @extra.checks"


def test_two_steps_of_one_name() -> None:
    assert refusal(declared("corpus")) == (
        f"two steps have the name corpus: corpus of {corpus.work.__module__} and "
        f"corpus of {__name__}"
    )


def test_two_tables_of_one_name() -> None:
    clusters = of("clusters", N_CLUSTERS_TOTAL.name)
    assert refusal(declared("extra", ByN, tables=(clusters,))) == (
        "two steps have the table clusters: cluster_rows of aanet_assets.steps.clusters and "
        f"extra of {__name__}"
    )


@pytest.mark.parametrize(
    ("partitions", "template"),
    [
        (ByN, "clusters_{n}/clustering.safetensors"),
        (ByN, "clusters_{n}/clustering.*"),
        (ByN, "clusters_{n}/clust{what}.safetensors"),
        (Whole, "{folder}/clustering.safetensors"),
        (Whole, "clusters_*/clustering.safetensors"),
    ],
)
def test_two_steps_that_claim_one_file(partitions: type[At], template: str) -> None:
    said = "both claim the file {}; a file belongs to one step"
    extra = declared("extra", partitions, files=(File("clusters_{n}/x"), File(template)))
    assert refusal(extra) == f"the steps clustering and extra {said.format(template)}"
    with pytest.raises(ValueError, match="the steps extra and clustering both claim the file"):
        _require_sound([extra, *all_steps()])


def test_steps_that_read_one_another() -> None:
    one = declared("one")
    two = declared("two", reads=(one,))
    one.reads = (corpus, two)
    message = "the steps one, two read one another in a circle; none can be first"
    with pytest.raises(ValueError, match=message):
        _in_order([*all_steps(), one, two, declared("three", reads=(corpus,))])
