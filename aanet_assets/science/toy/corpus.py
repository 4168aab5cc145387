"""Letters as text: how a document of a process is spelled, and the toy's corpus of such documents.

A document is its letters, separated by single spaces, as in `a1 a1 a3 d2`.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from aanet_assets.science.toy.own_process import KnownProcess
from aanet_assets.science.toy.process import UNION7
from aanet_assets.storage.files import replacing

ROWS_PER_GROUP = 10_000  # a streaming reader that skips documents skips whole groups cheaply


def text_of(letters: Int[np.ndarray, " length"], process: KnownProcess = UNION7) -> str:
    """Spell one document."""
    return " ".join(process.letters[letter] for letter in letters)


def letters_of(text: str, process: KnownProcess = UNION7) -> Int[np.ndarray, " length"]:
    """Read one document back, as indices into `process.letters`; ValueError for an unknown word."""
    index = {name: i for i, name in enumerate(process.letters)}
    words = text.split()
    unknown = sorted(set(words) - set(index))
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: no letters of this process, which has "
            f"{', '.join(process.letters)}"
        )
    return np.array([index[word] for word in words], dtype=np.int64)


def write_corpus(
    folder: Path, process: KnownProcess, n_documents: int, length: int, seed: int
) -> Path:
    """Draw `n_documents` documents of `length` letters into `folder/corpus.parquet`.

    The file has one column, `text`. Equal arguments give equal bytes. Returns its path.
    """
    letters = process.sample(n_documents, length, seed)
    table = pa.table({"text": [text_of(document, process) for document in letters]})
    path = folder / "corpus.parquet"
    with replacing(path) as temporary:
        pq.write_table(table, temporary, row_group_size=ROWS_PER_GROUP)
    return path
