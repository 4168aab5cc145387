"""Local files: their text column alone, literal names, errors with file and line, counts."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from aanet_assets.science.activations.corpus import corpus_files, documents
from aanet_assets.science.activations.text_files import check_readable, count_documents, texts_in
from aanet_assets.study.settings import CorpusSettings


def lines(path: Path, *rows: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, pattern: str, **more) -> list[str]:
    corpus = CorpusSettings(files=f"{folder}/{pattern}", **more)
    return list(documents(corpus, 0, 10**6))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([{"text": "a", "meta": 1}], [{"text": "b", "meta": "x"}]),
        ([{"text": "a", "meta": None}], [{"text": "b", "meta": "x"}]),
        ([{"text": "2020-01-01"}], [{"text": "2021-05-05", "more": [{"deep": 1}]}]),
    ],
)
def test_other_columns_may_differ(tmp_path: Path, first: list, second: list) -> None:
    for i, rows in enumerate((first, second)):
        lines(tmp_path / f"{i}.jsonl", *rows)
        pd.DataFrame(rows).astype({"text": str}).to_parquet(tmp_path / f"{i}.parquet")
    expected = [row["text"] for row in first + second]
    assert read(tmp_path, "*.jsonl") == expected
    assert read(tmp_path, "*.parquet") == expected


def test_other_columns_of_a_dataset_may_differ(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", {"text": "2020-01-01", "meta": None})
    lines(tmp_path / "b.jsonl", {"text": "2021-05-05", "meta": "x"}, {"text": "c", "more": 1})
    corpus = CorpusSettings(dataset=str(tmp_path))
    # Its files take turns, one to a shard.
    found = sorted(list(documents(corpus, shard, 2)) for shard in (0, 1))
    assert found == [["2020-01-01"], ["2021-05-05", "c"]]


def test_a_shard_opens_the_row_groups_of_its_documents_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, opened = [f"text {i}" for i in range(60)], []
    for part in range(2):
        table = pa.table({"text": texts[30 * part : 30 * part + 30]})
        pq.write_table(table, tmp_path / f"{part}.parquet", row_group_size=5)
    read = pq.ParquetFile.iter_batches

    def told(file: pq.ParquetFile, *args, row_groups: list[int], **more):
        opened.extend(row_groups)
        return read(file, *args, row_groups=row_groups, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", told)
    corpus = CorpusSettings(files=f"{tmp_path}/*.parquet")
    for shard in range(5):
        opened.clear()
        numbers = range(12 * shard, 12 * shard + 12)
        assert list(documents(corpus, shard, 12)) == [texts[i] for i in numbers]
        # Six groups of five in a file.
        assert opened == [group % 6 for group in sorted({i // 5 for i in numbers})]


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "txt"])
def test_texts_and_their_order_are_those_of_the_library(tmp_path: Path, kind: str) -> None:
    texts = ["one", "", "drei ß", "4\t\u2028x\x85", "five", None, "  ", "acht", "\x0b9\x1c"]
    texts = [text or "" for text in texts] if kind == "txt" else texts
    for part, rows in enumerate((texts[:4], [], texts[4:])):
        path = tmp_path / f"{part}.{kind}"
        match kind:
            case "parquet":
                table = pa.table({"other": range(len(rows)), "text": pa.array(rows, pa.string())})
                pq.write_table(table, path, row_group_size=2)
            case "jsonl":
                lines(path, *({"text": row} for row in rows))
            case "txt":
                path.write_bytes("\r\n".join([*rows, ""] if rows else []).encode())
    builder = {"parquet": "parquet", "jsonl": "json", "txt": "text"}[kind]
    there = [path for path in sorted(tmp_path.glob(f"*.{kind}")) if "1." not in path.name]
    library = load_dataset(builder, data_files=list(map(str, there)), split="train", streaming=True)
    expected = [row["text"] or "" for row in library]
    assert len(expected) == len(texts)
    corpus = CorpusSettings(files=f"{tmp_path}/*.{kind}")
    files = corpus_files(corpus)
    for first in range(len(texts) + 2):
        assert list(texts_in(files, corpus, first)) == expected[first:]
        assert count_documents(files, corpus, first) == min(first, len(texts))


def test_names_with_marks_of_patterns_are_names(tmp_path: Path) -> None:
    for name in ("a.txt", "a[1].txt", "a1.txt", "a*.txt", "ab.txt"):
        (tmp_path / name).write_text(name)
    assert read(tmp_path, "*.txt") == ["a*.txt", "a.txt", "a1.txt", "a[1].txt", "ab.txt"]


def test_a_dataset_folder_with_brackets_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "x[1]/a.jsonl", {"text": "a"})
    with pytest.raises(
        ValueError, match=r"x\[1\] has a \[ in its path, which datasets takes for a"
    ):
        list(documents(CorpusSettings(dataset=str(tmp_path / "x[1]")), 0, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n\n{"text": "b"\n', r"a\.jsonl, line 3: not JSON: Expecting ',' delim"),
        (b'{"text": "a"}\n["b"]\n', r"a\.jsonl, line 2: list; each line must be one JSON object"),
        (b'{"text": "a"}\n{"text": 7}\n', r"line 2: the column 'text' holds int, as in 7; it must"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', r"a\.jsonl, line 2: not UTF-8 text \(byte 0xff at"),
        (b'{"text": "a"}\n{"text": "\\ud800"}\n', r"line 2: not UTF-8 text \(U\+D800 at char"),
        (b'{"body": "a", "n": 1}\n', r"a\.jsonl has no column 'text'; it has \['body', 'n'\]: set"),
        (b'[' * 100_000, r"a\.jsonl, line 1: not JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_json_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "*.jsonl")


def test_a_column_that_later_lines_do_not_have_is_null_there(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", {"text": "a"}, {"other": 1}, {"text": None}, {"text": "d"})
    assert read(tmp_path, "*.jsonl") == ["a", "", "", "d"]


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("good é\n\nbad ".encode() + b"\xe9\n")
    with pytest.raises(
        ValueError, match=r"a\.txt, line 3: not UTF-8 text \(byte 0xe9 at charac.* 5"
    ):
        read(tmp_path, "a.txt")
    with pytest.raises(ValueError, match=r"a\.txt, line 3: not UTF-8 text \(byte 0xe9"):
        read(tmp_path, "a.txt", txt_documents="file")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("documents_are", ["line", "file"])
def test_text_in_wider_characters(tmp_path: Path, encoding: str, documents_are: str) -> None:
    (tmp_path / "a.txt").write_text("hello\nworld\n", encoding=encoding)
    with pytest.raises(ValueError, match=r"a\.txt, line 1: not UTF-8 text \("):
        read(tmp_path, "a.txt", txt_documents=documents_are)


def test_a_mark_of_byte_order_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo", encoding="utf-8-sig")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}', encoding="utf-8-sig")
    assert read(tmp_path, "a.txt") == ["one", "two"]
    assert read(tmp_path, "a.txt", txt_documents="file") == ["one\ntwo"]
    assert read(tmp_path, "a.jsonl") == ["one"]


def test_a_mark_of_byte_order_where_files_were_joined_is_no_text(tmp_path: Path) -> None:
    for name, content in {"a.txt": "one\n", "a.jsonl": '{"text": "one"}\n'}.items():
        (tmp_path / name).write_bytes(2 * content.encode("utf-8-sig"))
        assert read(tmp_path, name) == ["one", "one"]
    assert read(tmp_path, "a.txt", txt_documents="file") == ["one\none\n"]


def test_what_is_wrong_in_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    corpus = CorpusSettings(files=str(path))
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"a\.parquet is not a Parquet file that can be read"):
        check_readable(path, corpus)
    pd.DataFrame({"body": ["a"]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"a\.parquet has no column 'text'; it has \['body'\]"):
        check_readable(path, corpus)
    pd.DataFrame({"text": [None, b"x"]}).to_parquet(path)
    with pytest.raises(ValueError, match=r"a\.parquet, row 2: the column 'text' holds bytes"):
        check_readable(path, corpus)
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    pq.write_table(pa.table({"text": broken}), path)
    with pytest.raises(ValueError, match=r"a\.parquet, row 2: not UTF-8 text"):
        read(tmp_path, "a.parquet")


def test_a_text_file_is_a_document_per_line_or_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.txt").write_text("three")
    (tmp_path / "c.txt").touch()
    assert read(tmp_path, "*.txt") == ["one", "", "two", "three"]
    assert read(tmp_path, "*.txt", txt_documents="file") == ["one\n\ntwo\n", "three", ""]
    corpus = CorpusSettings(files=f"{tmp_path}/*.txt", txt_documents="file")
    assert list(documents(corpus, 1, 2)) == [""]
    assert count_documents(corpus_files(corpus), corpus, 10) == 3
