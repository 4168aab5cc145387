"""Damaged corpora and tables of what was recovered."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aanet_assets.steps.checks.ground_truth import check_corpus, check_recovery
from aanet_assets.steps.ground_truth import RECOVERY_PLOT, recovery
from aanet_assets.study.layout import StudyPaths
from aanet_assets.toy.process import UNION7
from aanet_assets_tests.checks.damage import edit_table, failures, put

PARTITION = recovery.at(n=7)


def edit_texts(path: Path, change: Callable[[list[str]], object]) -> None:
    texts = pq.read_table(path)["text"].to_pylist()
    change(texts)
    pq.write_table(pa.table({"text": texts}), path)


@pytest.fixture
def corpus(paths: StudyPaths) -> Path:
    return (paths.root / "corpus") / "corpus.parquet"


def of_corpus(path: Path) -> dict[str, str]:
    return failures(check_corpus(path, UNION7, 4_500, 16))


def of_recovery(paths: StudyPaths, change) -> dict[str, str]:
    edit_table(paths, "recovery", PARTITION, change)
    return failures(check_recovery(paths, 7, UNION7))


def test_the_good_ones_pass(paths: StudyPaths, corpus: Path) -> None:
    assert of_corpus(corpus) == {}
    assert failures(check_recovery(paths, 7, UNION7)) == {}
    assert failures(check_recovery(paths, 6, UNION7)) == {}, "a component without a cluster"


def test_a_document_is_missing(corpus: Path) -> None:
    edit_texts(corpus, lambda texts: texts.pop())
    assert of_corpus(corpus) == {"complete": "4,499 documents, 4,500 expected"}


@pytest.mark.parametrize("text", ["a1", "a1 " * 16 + "a1", ""])
def test_a_document_of_another_length(corpus: Path, text: str) -> None:
    edit_texts(corpus, lambda texts: texts.__setitem__(7, text))
    assert "1 have not 16 letters" in of_corpus(corpus)["letters"]


def test_a_word_that_is_no_letter(corpus: Path) -> None:
    edit_texts(corpus, lambda texts: texts.__setitem__(7, "z9 " * 16))
    assert "1 words are no letters of the process (z9)" in of_corpus(corpus)["letters"]


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.iloc[:-1],
        lambda frame: pd.concat([frame, frame.iloc[-1:]]),
        put("component", "mess9_z"),
    ],
    ids=["missing", "twice", "unknown"],
)
def test_components(paths: StudyPaths, change) -> None:
    assert list(of_recovery(paths, change)) == ["complete"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("r2", 1.1),
        ("leak", np.inf),
        ("barycentric_r2", -np.inf),
        ("vertex_purity", 2.0),
        ("token_r2", None),
    ],
)
def test_scores(paths: StudyPaths, column: str, value: object) -> None:
    assert list(of_recovery(paths, put(column, value))) == ["scores"]


def test_the_picture_is_missing(paths: StudyPaths) -> None:
    RECOVERY_PLOT.under(paths.root, n=7).unlink()
    assert "recovery_n7.png is not there" in failures(check_recovery(paths, 7, UNION7))["drawn"]
