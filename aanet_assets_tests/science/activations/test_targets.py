"""Targets of one's own: read token by token, and refused in a sentence if they are none."""

import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aanet_assets.science.activations.preflight import preflight
from aanet_assets.science.activations.targets import check_targets, factor_names, read_targets
from aanet_assets.science.toy.corpus import letters_of
from aanet_assets.science.toy.process import UNION7
from aanet_assets.steps.activations import SHARD
from aanet_assets.steps.ground_truth import RECOVERY, RECOVERY_PLOT, recovery
from aanet_assets.steps.inputs import CORPUS
from aanet_assets.storage.inputs import is_input
from aanet_assets.storage.obeyed import settings_values
from aanet_assets.storage.run import Run
from aanet_assets.study.settings import CorpusSettings, TruthSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import findings, read
from aanet_assets_tests.small import small_study

LENGTH = 16
SIMPLICES = ["mess3_a", "mess3_b", "mess3_c", "mess2_d", "mess4_e"]


def table_of_beliefs(study: Study) -> dict[str, Any]:
    """What the process says of the small study's corpus: a list per component, null elsewhere."""
    texts = pq.read_table(CORPUS.under(study.paths.root))["text"].to_pylist()
    letters = np.stack([letters_of(text) for text in texts])
    # The first token of a document is BOS, of which nothing is known.
    document, token = (axis.ravel() for axis in np.indices((len(letters), LENGTH + 1)))
    columns: dict[str, Any] = {"document": document, "token": token}
    targets = UNION7.targets(letters)
    for factor in targets.factors:
        size = factor.true_k or 4
        values = np.full((len(letters), LENGTH + 1), None, dtype=object)
        own = factor.known.reshape(-1, LENGTH)
        lists = iter(factor.values[factor.known, :size].tolist())
        for i, j in np.argwhere(own):
            values[i, j + 1] = next(lists)
        columns[factor.name] = values.ravel().tolist()
    return columns


@pytest.fixture
def told(copied: Study) -> Study:
    """The finished small study, its answer told by a file in place of the process."""
    pq.write_table(pa.table(table_of_beliefs(copied)), "answer.parquet")
    return copied.model_copy(update={"truth": TruthSettings(targets="answer.parquet")})


def test_a_file_recovers_what_the_process_does(told: Study) -> None:
    at = recovery.at(n=7)
    expected = read(told, at, RECOVERY).set_index("component")
    recovery.work(Run(told, at))
    found = read(told, at, RECOVERY).set_index("component")
    assert list(found.index) == list(UNION7.names)
    numbers = ["r2", "token_r2", "leak", "barycentric_r2", "vertex_purity"]
    np.testing.assert_allclose(
        found.loc[SIMPLICES, numbers], expected.loc[SIMPLICES, numbers], atol=1e-6
    )
    assert (found["cluster_id"] == expected["cluster_id"]).all()
    assert found.loc[SIMPLICES, "kind"].unique().tolist() == ["probabilities"]
    # A disk has four numbers and no simplex.
    assert found.loc[["tom_quantum_f"], "true_k"].isna().all()
    assert found.loc["tom_quantum_f", "kind"] == "numbers"
    assert all(one.passed for one in findings(told, at).values())
    assert RECOVERY_PLOT.under(told.paths.root, n=7).read_bytes().startswith(b"\x89PNG")


def test_the_files_content_counts(told: Study) -> None:
    path = Path("answer.parquet").resolve()
    before = settings_values(told, recovery)
    assert is_input(told, path)
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert settings_values(told, recovery) != before


def written(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "own.parquet"
    pq.write_table(pa.table(columns), path)
    return path


PLACES = {"document": [0, 0, 1], "token": [1, 2, 1]}


def test_columns_of_one_name_are_one_factor(tmp_path: Path, told: Study) -> None:
    path = written(
        tmp_path,
        PLACES | {"sky.sun": [0.2, None, 1], "sky.rain": [0.8, 0.1, 0], "count": [1, 2, 3]},
    )
    assert factor_names(path) == ["sky", "count"]
    study = told.model_copy(update={"truth": TruthSettings(targets=str(path))})
    shard = SHARD.under(study.paths.root, shard=0)
    with pytest.raises(ValueError, match=r"no row of 23,997 of 24,000 tokens, the first of them "
                       r"token 3 of document 0 \(both counted from 0, BOS included\)"):  # fmt: skip
        read_targets(study, [shard])
    everywhere = {name: np.indices((1_500, 17))[i].ravel() for i, name in enumerate(PLACES)}
    rows = len(everywhere["token"])
    sun = [None if i % 2 else 0.25 for i in range(rows)]
    written(tmp_path, everywhere | {"sky.sun": sun, "sky.rain": [0.75] * rows})
    (sky,) = read_targets(study, [shard]).factors
    assert (sky.kind, sky.true_k) == ("probabilities", 2)
    assert sky.known.mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(sky.values[sky.known], [[0.25, 0.75]] * int(sky.known.sum()))


def test_a_file_of_the_same_size_and_time_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path, PLACES | {"sun": [1, 2, 3]})
    before = path.stat()
    assert factor_names(path) == ["sun"]
    time.sleep(0.05)  # one tick of the file system's clock at least
    written(tmp_path, PLACES | {"fog": [1, 2, 3]})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert factor_names(path) == ["fog"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"document": [0], "x": [1]}, "have no column 'token'; they have document, x"),
        (PLACES, "no columns but document and token"),
        (PLACES | {"document": [0.0, 0, 1]}, "'document' of the targets {} is double with 0 nulls"),
        (PLACES | {"token": [1, None, 1]}, "is int64 with 1 nulls; it must be integers"),
        (PLACES | {"token": [1, -2, 1]}, "runs from -2 to 1; documents and tokens are counted"),
        (PLACES | {"token": [1, 1, 1], "x": [1, 1, 1]}, "two rows of token 1 of document 0"),
        (PLACES | {"x": ["a", "b", "c"]}, "column 'x' of the targets {} holds string"),
        (PLACES | {"x": [[1], [1, 2], None]}, "lists of the lengths 1, 2; all must have the same"),
        (PLACES | {"x": [1.0, float("inf"), 2]}, "column 'x' of the targets {} has infinite"),
        ({"document": pa.array([], pa.int64()), "token": pa.array([], pa.int64())}, "have no rows"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    path = written(tmp_path, columns)
    with pytest.raises(ValueError, match=re.escape(said.format(path))):
        factor_names(path)


def test_no_file_and_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are not there: give a Parquet file"):
        factor_names(tmp_path / "no.parquet")
    (tmp_path / "no.parquet").write_text("document,token")
    with pytest.raises(ValueError, match="are no Parquet file that can be read"):
        factor_names(tmp_path / "no.parquet")


def corpus_of(folder: Path, *texts: str) -> CorpusSettings:
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    return CorpusSettings(files=str(folder / "texts.txt"))


def test_documents_that_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, PLACES | {"x": [1, 2, 3]})
    check_targets(path, corpus_of(tmp_path, "a1", "a2"))
    with pytest.raises(ValueError, match=r"have rows of document 1; the corpus .* has 1 documents"):
        check_targets(path, corpus_of(tmp_path, "a1"))


def test_a_run_is_refused_before_any_work(told: Study, tmp_path: Path) -> None:
    preflight(told)
    written(tmp_path, {"document": [4_500], "token": [1], "x": [1]})
    wrong = told.model_copy(update={"truth": TruthSettings(targets=str(tmp_path / "own.parquet"))})
    with pytest.raises(ValueError, match=r"study 'small': the targets .* document 4,500; .* 4,500"):
        preflight(wrong)
    with pytest.raises(ValueError, match="give either process or targets"):
        TruthSettings(process="union7", targets="answer.parquet")
    with pytest.raises(ValueError, match=r"set corpus\.files"):
        small_study(truth=TruthSettings(targets="a.parquet"), corpus=CorpusSettings(dataset="a"))
