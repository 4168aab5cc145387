"""What is known of tokens of the corpus: factors with a number or several at each, from a file.

Documents are numbered from 0 in the order of the corpus, the dropped ones included; tokens from 0
in their document, what opens it (BOS) included: the `position` of `Simplex.project`.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int
from safetensors import safe_open

from aanet_assets.science.activations.corpus import corpus_files
from aanet_assets.science.activations.text_files import count_documents
from aanet_assets.storage.fingerprints import Stamp, stamp_of
from aanet_assets.study.settings import CorpusSettings
from aanet_assets.study.study import Study, resolve

_EXACT = 1e-3
"""How far probabilities may be from their sum of 1: files round."""
_PLACE = ("document", "token")


class Factor(NamedTuple):
    """One thing that is known of tokens."""

    name: str
    kind: str
    true_k: int | None
    """Vertices of the simplex that the first so many of its numbers fill; None where it is none."""
    known: Bool[np.ndarray, " tokens"]
    """Tokens at which it has a value."""
    values: Float[np.ndarray, "tokens outputs"]
    """Not to be used at other tokens."""


class Targets(NamedTuple):
    """What is known of tokens, in the order of the codes' rows."""

    ids: Int[np.ndarray, " tokens"]
    """Which tokens they are."""
    factors: list[Factor]


class _Rows(NamedTuple):
    """A whole file."""

    places: Int[np.ndarray, " rows"]
    """Document and token in one number, ascending."""
    factors: dict[str, Float[np.ndarray, "rows outputs"]]
    """NaN where it is not known."""


def factor_names(path: Path) -> list[str]:
    """The factors of a file, in the order of its columns.

    Raises:
        ValueError: there is no such file, or it has none.
    """
    return list(_rows(path).factors)


def check_targets(path: Path, corpus: CorpusSettings) -> None:
    """Read a file, and look whether the corpus has its documents.

    Raises:
        ValueError: with what is wrong, and what to do.
    """
    last = _document(int(_rows(path).places[-1]))
    count = count_documents(corpus_files(corpus), corpus, last + 1)
    if last >= count:
        raise ValueError(
            f"the targets {path} have rows of document {last:,}; the corpus {corpus.files} has "
            f"{count:,} documents, numbered from 0: take those rows out, or give the corpus that "
            "they belong to"
        )


def read_targets(study: Study, shards: Sequence[Path]) -> Targets:
    """The targets of a study's own file, at all tokens of some shards that count.

    Raises:
        ValueError: the file cannot be used, or a token has no row in it.
    """
    path = resolve(study.known_truth.targets or "")
    rows, own = _rows(path), [_counted(shard) for shard in shards]
    ids, places = (np.concatenate(parts) for parts in zip(*own, strict=True))
    at = np.searchsorted(rows.places, places)
    found = rows.places[np.minimum(at, len(rows.places) - 1)]
    lacking = np.flatnonzero(found != places)
    if lacking.size:
        first = int(places[lacking[0]])
        raise ValueError(
            f"the targets {path} have no row of {lacking.size:,} of {places.size:,} tokens, the "
            f"first of them token {_token(first)} of document {_document(first)} (both counted "
            "from 0, BOS included): give each a row, with nulls where nothing is known of it"
        )
    return Targets(ids, [_factor(name, values, at) for name, values in rows.factors.items()])


def _factor(
    name: str, values: Float[np.ndarray, "rows outputs"], at: Int[np.ndarray, " tokens"]
) -> Factor:
    known = np.isnan(values).sum(axis=1) == 0
    some, outputs = values[known], values.shape[1]
    is_simplex = outputs > 1 and bool(
        (some >= 0).all() and (np.abs(some.sum(axis=1) - 1) < _EXACT).all()
    )
    kind = "probabilities" if is_simplex else "numbers"
    return Factor(name, kind, outputs if is_simplex else None, known[at], values[at])


def _counted(shard: Path) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, " tokens"]]:
    """Ids and places of a shard's tokens that are not special."""
    with safe_open(shard, framework="numpy") as file:
        ids, special, documents, starts = map(
            file.get_tensor, ("tokens", "special", "documents", "starts")
        )
    positions = starts[:, None].astype(np.int64) + np.arange(ids.shape[1])
    places = _places(np.broadcast_to(documents[:, None], ids.shape), positions)
    return ids[~special].astype(np.int64), places[~special]


def _places(
    documents: Int[np.ndarray, "*tokens"], tokens: Int[np.ndarray, "*tokens"]
) -> Int[np.ndarray, "*tokens"]:
    return documents.astype(np.int64) << 32 | tokens


def _document(place: int) -> int:
    return place >> 32


def _token(place: int) -> int:
    return place & (2**32 - 1)


def _rows(path: Path) -> _Rows:
    try:
        stamp = stamp_of(path)
    except FileNotFoundError:
        raise ValueError(
            f"the targets {path} are not there: give a Parquet file with the columns document, "
            "token and one or more factors (docs/truth.md)"
        ) from None
    return _read(path, stamp)


@lru_cache(maxsize=1)
def _read(path: Path, _stamp: Stamp) -> _Rows:
    """The file as it is; every shard's run asks for it."""
    try:
        # Not read_table, which takes the name for a pattern.
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"the targets {path} are no Parquet file that can be read: {error}"
        ) from None
    place = [_whole_numbers(path, table, name) for name in _PLACE]
    if not len(table):
        raise ValueError(f"the targets {path} have no rows: give one for each token")
    places = _places(*place)
    order = np.argsort(places, kind="stable")
    places = places[order]
    twice = np.flatnonzero(np.diff(places) == 0)
    if twice.size:
        first = int(places[twice[0]])
        raise ValueError(
            f"the targets {path} have two rows of token {_token(first)} of document "
            f"{_document(first)}; a token has one"
        )
    factors: dict[str, list[np.ndarray]] = {}
    for name, values in _outputs(path, table):
        factors.setdefault(name, []).append(values[order])
    if not factors:
        raise ValueError(
            f"the targets {path} have no columns but document and token: give one or more factors"
        )
    return _Rows(places, {name: np.column_stack(parts) for name, parts in factors.items()})


def _whole_numbers(path: Path, table: pa.Table, name: str) -> Int[np.ndarray, " rows"]:
    if name not in table.column_names:
        raise ValueError(
            f"the targets {path} have no column {name!r}; they have "
            f"{', '.join(table.column_names)}: each row is of one token of one document"
        )
    column = table.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ValueError(
            f"the column {name!r} of the targets {path} is {column.type} with "
            f"{column.null_count} nulls; it must be integers without nulls"
        )
    found = column.to_numpy().astype(np.int64)
    if len(found) and not 0 <= found.min() <= found.max() < 2**31:
        raise ValueError(
            f"the column {name!r} of the targets {path} runs from {found.min()} to {found.max()}; "
            "documents and tokens are counted from 0"
        )
    return found


def _outputs(path: Path, table: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    """The numbers of each factor: those of a list, or of the columns `name.one`, `name.other`."""
    for name in table.column_names:
        if name in _PLACE:
            continue
        column = table.column(name).combine_chunks()
        kind = column.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lengths = np.unique(np.diff(column.drop_null().offsets.to_numpy()))
            if len(lengths) != 1 or not lengths[0]:
                raise ValueError(
                    f"the column {name!r} of the targets {path} has lists of the lengths "
                    f"{', '.join(map(str, lengths)) or 'none'}; all must have the same, 1 or more"
                )
            size, kind = int(lengths[0]), kind.value_type
            column = column.cast(pa.list_(kind, size))
        elif pa.types.is_fixed_size_list(kind):
            size, kind = kind.list_size, kind.value_type
        else:
            size = 0
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise ValueError(
                f"the column {name!r} of the targets {path} holds {kind}; a factor is numbers, or "
                "lists of them: take the column out"
            )
        values = _numbers(column, size)
        if np.isinf(values).any():
            raise ValueError(f"the column {name!r} of the targets {path} has infinite numbers")
        yield name if size else name.partition(".")[0], values


def _numbers(column: pa.Array, size: int) -> np.ndarray:
    """A column as float64, with NaN for nulls; (rows, size) of lists."""
    if not size:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    rows = np.full((len(column), size), np.nan)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    # Without the rows that are null, which have values in the array all the same, or none.
    flat = column.drop_null().flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    rows[there] = flat.reshape(-1, size)
    return rows
