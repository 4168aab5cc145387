"""English prose that installed software carries: docstrings, package descriptions, Debian's docs.

Paragraphs that are not prose (code, tables, lists of names) are left out, and each is kept once,
wherever else it is repeated. What is found depends on what is installed.
"""

import ast
import gzip
import hashlib
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from aanet_assets.storage.files import replacing
from aanet_assets.study.progress import Progress

DEBIAN = (Path("/usr/share/doc"), Path("/usr/share/games/fortunes"))
SHORTEST, LONGEST = 600, 8_000
"""Characters of a document; longer texts are split between paragraphs."""
_PARAGRAPH = 60  # characters at least
_WORDS = re.compile(r"[A-Za-z]+")
_SENTENCE = re.compile(r"[a-z][.!?:]($|[\s\"')])")
_BLANK = re.compile(r"\n\s*\n|\n%\n")
_TEXT = re.compile(r"(README|NEWS|FAQ)[\w.-]*|.*\.(txt|md|rst|pod)(\.gz)?|[a-z]+", re.IGNORECASE)
_ROWS_PER_GROUP = 1_000


class Document(NamedTuple):
    """A text and the file it comes from."""

    text: str
    source: str


def write_prose(path: Path, characters: int, seed: int) -> tuple[int, int]:
    """Gather prose into a Parquet file of the columns `text` and `source`, in random order.

    Args:
        path: the file.
        characters: how many to keep at most.
        seed: of the order, and so of what is left out.

    Returns: number of documents and of characters.
    """
    files = list(_files())
    progress = Progress(len(files), "files", "gathering prose")
    seen: set[bytes] = set()
    found: list[Document] = []
    for file in files:
        found += _documents(file, seen)
        progress.advance()
    random.Random(seed).shuffle(found)
    kept, length = [], 0
    for document in found:
        if length + len(document.text) > characters:
            break
        kept.append(document)
        length += len(document.text)
    table = pa.table({name: [getattr(d, name) for d in kept] for name in Document._fields})
    with replacing(path) as temporary:
        pq.write_table(table, temporary, row_group_size=_ROWS_PER_GROUP)
    return len(kept), length


def _files() -> Iterator[Path]:
    """Files of installed Python packages, of Python itself and of Debian's packages, sorted."""
    packages, library = (Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib"))
    for root in (library, packages, *DEBIAN):
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if root == library and inside.parts[0] == packages.name:
                continue
            named = path.suffix == ".py" or path.name == "METADATA" or _is_text(path, root)
            if named and path.is_file() and not path.is_symlink():
                yield path


def _is_text(path: Path, root: Path) -> bool:
    """Texts of Debian's packages; beside Python's code, files named so are data of tests."""
    return root in DEBIAN and _TEXT.fullmatch(path.name) is not None


def _documents(path: Path, seen: set[bytes]) -> Iterator[Document]:
    """Documents of one file, out of paragraphs that are not in `seen`, which they are added to."""
    fresh = []
    for paragraph in _BLANK.split(_text(path)):
        text = " ".join(paragraph.split())
        if is_prose(text) and (key := _key(text)) not in seen:
            seen.add(key)
            fresh.append(text)
    block: list[str] = []
    for text in [*fresh, None]:
        size = sum(map(len, block))
        if block and (text is None or size + len(text) > LONGEST):
            if size >= SHORTEST:
                yield Document("\n\n".join(block), str(path))
            block = []
        if text is not None and len(text) <= LONGEST:
            block.append(text)


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is made of sentences rather than of code or names."""
    if len(paragraph) < _PARAGRAPH or ">>>" in paragraph or not _SENTENCE.search(paragraph):
        return False
    words = _WORDS.findall(paragraph)
    plain = sum(map(len, words)) + paragraph.count(" ")
    short = sum(len(word) <= 3 for word in words)
    return plain > 0.88 * len(paragraph) and short > 0.15 * len(words)


def _key(paragraph: str) -> bytes:
    """Equal for paragraphs that differ in case, digits and punctuation only."""
    return hashlib.blake2b(
        "".join(_WORDS.findall(paragraph)).lower().encode(), digest_size=8
    ).digest()


def _text(path: Path) -> str:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = raw.decode("utf-8", errors="ignore")
    if path.suffix == ".py":
        return "\n\n".join(_docstrings(text))
    if path.name == "METADATA":
        return str(message_from_string(text).get_payload())
    return text


def _docstrings(code: str) -> Iterator[str]:
    """Docstrings of a module and all in it, in their order."""
    try:
        with warnings.catch_warnings():
            # Of strings with odd escapes, in other people's code.
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
