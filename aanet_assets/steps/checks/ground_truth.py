"""Checks of what only studies with a known answer have: the drawn corpus, and the recovery."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from aanet_assets.science.toy.corpus import ROWS_PER_GROUP
from aanet_assets.science.toy.own_process import KnownProcess
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding

_SCORES = ("r2", "token_r2", "leak", "barycentric_r2", "vertex_purity")


def check_corpus(path: Path, process: KnownProcess, documents: int, length: int) -> list[Finding]:
    """Check a corpus of `documents` documents of `length` letters each."""
    with pq.ParquetFile(path) as file:
        found = file.metadata.num_rows
        # The first group shows what the writer does with letters.
        texts = next(file.iter_batches(ROWS_PER_GROUP, columns=["text"])).column("text")
    words = [text.split() for text in texts.to_pylist()]
    unequal = sum(len(document) != length for document in words)
    unknown = sorted(set().union(*words) - set(process.letters))
    return [
        Finding("complete", found == documents, f"{found:,} documents, {documents:,} expected"),
        Finding(
            "letters",
            not unequal and not unknown,
            f"of the first {len(texts):,} documents {unequal:,} have not {length} letters, and "
            f"{len(unknown)} words are no letters of the process ({listed(unknown) or 'none'}); "
            "both must be 0",
        ),
    ]


def check_recovery(table: pd.DataFrame, names: Sequence[str]) -> list[Finding]:
    """Check the table of what was recovered at one n; `names` are those of the components."""
    scores = table[list(_SCORES)].to_numpy(dtype=np.float64)
    wrong = int(((scores > 1) | np.isinf(scores)).sum())
    unmeasured = int(np.isnan(scores[:, 1]).sum())
    return [
        Finding(
            "complete",
            list(table["component"]) == list(names),
            f"{len(table)} components have a row ({listed(table['component'], 20)}), "
            f"{len(names)} expected: {listed(names, 20)}",
        ),
        Finding(
            "scores",
            wrong == unmeasured == 0,
            f"{wrong} scores are above 1 or infinite, and {unmeasured} components have no R^2 from "
            "the letter alone; both must be 0",
        ),
    ]
