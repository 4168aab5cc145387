"""Damaged corpora and tables of what was recovered."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aanet_assets.steps.ground_truth import RECOVERY, RECOVERY_PLOT, recovery
from aanet_assets.steps.inputs import CORPUS, corpus
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, put
from aanet_assets_tests.outputs import change as edit

RECOVERED = recovery.at(n=7)


def of_corpus(study: Study, change: Callable[[list[str]], object]) -> dict[str, str]:
    path = CORPUS.under(study.paths.root)
    texts = pq.read_table(path)["text"].to_pylist()
    change(texts)
    pq.write_table(pa.table({"text": texts}), path)
    return complaints(study, corpus.at())


def of_recovery(study: Study, change) -> dict[str, str]:
    edit(study, RECOVERED, RECOVERY, change)
    return complaints(study, RECOVERED)


def test_the_good_ones_pass(study: Study) -> None:
    assert complaints(study, corpus.at()) == {}
    assert complaints(study, RECOVERED) == {}
    assert complaints(study, recovery.at(n=6)) == {}, "a component without a cluster"


def test_a_document_is_missing(study: Study) -> None:
    assert of_corpus(study, lambda texts: texts.pop()) == {
        "complete": "4,499 documents, 4,500 expected"
    }


@pytest.mark.parametrize("text", ["a1", "a1 " * 16 + "a1", ""])
def test_a_document_of_another_length(study: Study, text: str) -> None:
    said = of_corpus(study, lambda texts: texts.__setitem__(7, text))
    assert "1 have not 16 letters" in said["letters"]


def test_a_word_that_is_no_letter(study: Study) -> None:
    said = of_corpus(study, lambda texts: texts.__setitem__(7, "z9 " * 16))
    assert "1 words are no letters of the process (z9)" in said["letters"]


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.iloc[:-1],
        lambda frame: pd.concat([frame, frame.iloc[-1:]]),
        put("component", "mess9_z"),
    ],
    ids=["missing", "twice", "unknown"],
)
def test_components(study: Study, change) -> None:
    assert list(of_recovery(study, change)) == ["complete"]


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
def test_scores(study: Study, column: str, value: object) -> None:
    assert list(of_recovery(study, put(column, value))) == ["scores"]


def test_the_picture_is_missing(study: Study) -> None:
    RECOVERY_PLOT.under(study.paths.root, n=7).unlink()
    assert "recovery_n7.png is not there" in complaints(study, RECOVERED)["drawn"]
