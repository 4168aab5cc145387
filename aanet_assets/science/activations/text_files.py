"""Texts of documents in local .parquet, .jsonl and .txt files, and how many there are.

Only the text column is read: others may differ from file to file. A file's name is never taken for
a pattern. What cannot be read is told with the file and the line or row.
"""

import json
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aanet_assets.study.settings import CorpusSettings

_MARK = "\ufeff"
"""Mark of byte order: it opens a file, and a line where files were joined; it is no text."""
_AT_ONCE = 256
"""Rows of a Parquet file read in one go."""


def texts_in(files: Sequence[Path], corpus: CorpusSettings, first: int = 0) -> Iterator[str]:
    """Texts of files read one after the other, from document `first` on; "" where there is none.

    Raises:
        ValueError: with file and line: not JSON, not UTF-8, no such column, or no text in it.
    """
    for file in files:
        first = yield from _READERS[file.suffix](file, corpus, first)


def count_documents(files: Sequence[Path], corpus: CorpusSettings, enough: int) -> int:
    """Number of documents in files, empty ones included; not counted on above `enough`."""
    found = 0
    for file in files:
        if found >= enough:
            break
        if file.suffix == ".parquet":
            found += _opened(file).metadata.num_rows
        elif file.suffix == ".txt" and corpus.txt_documents == "file":
            found += 1
        else:
            lines = (line for _, line in _lines(file) if file.suffix == ".txt" or line.strip())
            found += sum(1 for _ in islice(lines, enough - found))
    return min(found, enough)


def check_readable(file: Path, corpus: CorpusSettings) -> None:
    """Look at a file's first document, or a Parquet file's columns.

    Raises:
        ValueError: the text column is not there, or the document cannot be read.
    """
    if file.suffix != ".parquet":
        next(texts_in([file], corpus), None)
        return
    schema = _opened(file).schema_arrow
    _check_column(file, corpus.text_column, schema.names)
    kind = schema.field(corpus.text_column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        # The first row says more than its type does; a column of nulls has no text to refuse.
        next(filter(None, texts_in([file], corpus)), None)


# A reader gives the texts of one file but for the first `skip`, and returns how many documents of
# the files after it are still to be skipped.
Reader = Generator[str, None, int]


def _txt(file: Path, corpus: CorpusSettings, skip: int) -> Reader:
    if corpus.txt_documents == "file":
        if skip == 0:
            whole = file.read_text(encoding="utf-8", errors="surrogateescape")
            lines = [line.removeprefix(_MARK) for line in whole.split("\n")]
            for number, line in enumerate(lines, 1):
                _check_plain(line, file, number)
            yield "\n".join(lines)
        return max(skip - 1, 0)
    for number, line in _lines(file):
        if skip:
            skip -= 1
            continue
        _check_plain(line, file, number)
        yield line
    return skip


def _jsonl(file: Path, corpus: CorpusSettings, skip: int) -> Reader:
    first = True
    for number, line in _lines(file):
        if not line.strip():
            continue
        if skip:
            skip, first = skip - 1, False
            continue
        _check_unicode(line, file, number)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{file}, line {number}: not JSON: {error}; each line must be one JSON object"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{file}, line {number}: {type(row).__name__}; each line must be one JSON object, "
                f'as in {{"{corpus.text_column}": "..."}}'
            )
        # As in a table, what a later line does not have is null.
        if first:
            _check_column(file, corpus.text_column, row)
            first = False
        text = text_of(row.get(corpus.text_column), corpus.text_column, f"{file}, line {number}")
        _check_unicode(text, file, number)
        yield text
    return skip


def _parquet(file: Path, corpus: CorpusSettings, skip: int) -> Reader:
    opened, column, row = _opened(file), corpus.text_column, 0
    _check_column(file, column, opened.schema_arrow.names)
    for group in range(opened.num_row_groups):
        rows = opened.metadata.row_group(group).num_rows
        if skip >= rows:
            skip, row = skip - rows, row + rows
            continue
        for batch in opened.iter_batches(_AT_ONCE, row_groups=[group], columns=[column]):
            values = batch.column(0)[skip:]
            row, skip = row + len(batch) - len(values), max(skip - len(batch), 0)
            for value in values:
                row += 1
                where = f"{file}, row {row}"
                try:
                    text = value.as_py()
                except UnicodeDecodeError as error:
                    raise ValueError(f"{where}: not UTF-8 text: {error}") from None
                yield text_of(text, column, where)
    return skip


_READERS = {".parquet": _parquet, ".jsonl": _jsonl, ".txt": _txt}
KINDS = tuple(_READERS)
"""Endings of the files that can be read."""


def text_of(value: Any, column: str, where: str) -> str:
    """The text in a column, "" for null; ValueError if it holds something else."""
    if value is None or isinstance(value, str):
        return value or ""
    raise ValueError(
        f"{where}: the column {column!r} holds {type(value).__name__}, as in {value!r:.60}; it "
        "must hold text: set corpus.text_column"
    )


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1. Bytes that are not UTF-8 become lone surrogates."""
    with file.open(encoding="utf-8", errors="surrogateescape") as opened:
        for number, line in enumerate(opened, 1):
            yield number, line.removesuffix("\n").removeprefix(_MARK)


def _check_plain(line: str, file: Path, number: int) -> None:
    """The same of a line of plain text, in which every other byte of UTF-16 would be a NUL."""
    if "\0" in line:
        raise ValueError(
            f"{file}, line {number}: not UTF-8 text (NUL at character {line.index(chr(0)) + 1}, as "
            "in UTF-16): save the file as UTF-8"
        )
    _check_unicode(line, file, number)


def _check_unicode(text: str, file: Path, line: int) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"U+{code:04X}"
        raise ValueError(
            f"{file}, line {line}: not UTF-8 text ({what} at character {error.start + 1}): save "
            "the file as UTF-8"
        ) from None


def _check_column(file: Path, column: str, columns: Sequence[str] | dict[str, Any]) -> None:
    if column not in columns:
        raise ValueError(
            f"{file} has no column {column!r}; it has {sorted(columns)}: set corpus.text_column"
        )


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowException as error:
        raise ValueError(f"{file} is not a Parquet file that can be read: {error}") from None
