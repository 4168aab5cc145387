"""Which files count as a study's inputs, and that a change of any of their bytes is seen."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aanet_assets.storage import fingerprints
from aanet_assets.storage.fingerprints import hash_of, hash_of_bytes
from aanet_assets.storage.inputs import files_like, input_files, input_hashes
from aanet_assets.study.layout import fingerprints as store
from aanet_assets.study.settings import CorpusSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

HASH = """
import sys
from pathlib import Path
from aanet_assets.storage import fingerprints
fingerprints._SETTLED = -1.0
print(fingerprints.hash_of(Path(sys.argv[1])))
"""
LITTER = (
    ".DS_Store", "._config.json", "Thumbs.db", "desktop.ini", "README.md", "LICENSE.txt",
    "config.json~", ".config.json.swp", "config.json.bak", "#config.json#", "notes.docx",
    ".cache/huggingface/download/model.safetensors.metadata", ".git/config", ".git/x.json",
    "onnx/model.onnx", "original/params.json", "runs/events.json",
)  # fmt: skip


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder whose name is a pattern."""
    folder = tmp_path / "bra[b]"
    folder.mkdir()
    monkeypatch.setenv("AANET_HOME", str(folder))
    monkeypatch.setattr(fingerprints, "_seen", {})
    return folder


def put(path: Path, content: str | bytes = "1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def with_corpus(**corpus) -> Study:
    return small_study(truth=None, corpus=CorpusSettings(**corpus))


@pytest.mark.parametrize("field", ["model", "sae"])
def test_what_other_programs_leave_in_a_folder_does_not_count(project: Path, field: str) -> None:
    study = small_study(model="in", sae={"directory": "in"})
    loaded = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "code.py")
    for name in loaded:
        put(project / "in" / name)
    before = input_hashes(study, field)
    assert set(before) == set(loaded)
    for name in LITTER:
        put(project / "in" / name, "left behind")
    assert input_hashes(study, field) == before
    for name in loaded:
        put(project / "in" / name, "2")
        assert input_hashes(study, field)[name] != before[name]


def test_weights_in_parts_count_wherever_the_index_says_they_are(project: Path) -> None:
    index = {"weight_map": {"a": "parts/1.safetensors", "b": "parts/2.safetensors"}}
    put(project / "in/model.safetensors.index.json", json.dumps(index))
    for name in ("1", "2", "3"):
        put(project / f"in/parts/{name}.safetensors")
    study = small_study(model="in")
    index_name = "model.safetensors.index.json"
    assert list(input_hashes(study, "model")) == [
        index_name, "parts/1.safetensors", "parts/2.safetensors",
    ]  # fmt: skip
    put(project / "in" / index_name, "[1")
    assert list(input_hashes(study, "model")) == [index_name]


def test_the_files_of_a_dataset_folder_count(project: Path) -> None:
    study = with_corpus(dataset="texts")
    put(project / "texts/train/a.parquet")
    put(project / "texts/test/a.parquet")
    put(project / "texts/b.jsonl.gz")
    elsewhere = put(project / "elsewhere/c.csv")
    (project / "texts/linked").symlink_to(elsewhere.parent)
    (project / "texts/around").symlink_to(project / "texts")
    names = ["b.jsonl.gz", "linked/c.csv", "test/a.parquet", "train/a.parquet"]
    before = input_hashes(study, "corpus")
    assert sorted(before) == names
    for name in (".DS_Store", ".cache/x.parquet", "Thumbs.db", "a.parquet~", "a.parquet.bak"):
        put(project / "texts" / name)
    assert input_hashes(study, "corpus") == before
    put(project / "texts/train/a.parquet", "2")
    changed = input_hashes(study, "corpus")
    assert {name for name in names if changed[name] != before[name]} == {"train/a.parquet"}
    (project / "texts/train").rename(project / "texts/validation")
    assert set(input_hashes(study, "corpus")) != set(names), "the folder's name is the split's"


def test_of_a_datasets_card_the_header_counts(project: Path) -> None:
    study = with_corpus(dataset="texts")
    card = put(project / "texts/README.md", "---\nconfigs: a\n---\nwords")
    before = input_hashes(study, "corpus")
    put(card, "---\nconfigs: a\n---\nother words")
    assert input_hashes(study, "corpus") == before
    put(card, "---\nconfigs: b\n---\nwords")
    assert input_hashes(study, "corpus") != before


def test_names_of_files_are_no_patterns(project: Path) -> None:
    names = ("text1.txt", "text[1].txt", "a*.txt", "ab.txt")
    files = {name: put(project / "data" / name) for name in names}
    assert files_like("data/*.txt") == sorted(files.values())
    assert files_like("data/text[1].txt") == [files["text[1].txt"]]
    assert files_like("data/a*.txt") == [files["a*.txt"], files["ab.txt"]]
    assert files_like(str(files["text[1].txt"])) == [files["text[1].txt"]]
    files["text[1].txt"].unlink()
    assert files_like("data/text[1].txt") == [files["text1.txt"]]
    assert files_like("data/none[1].txt") == []


def test_folders_with_brackets_are_looked_into(project: Path) -> None:
    file = put(project / "data/folder[x]/deep/a.txt")
    put(project / "data/folderx/deep/b.txt")
    assert files_like("data/folder[x]/**/*.txt") == [file]
    assert files_like("data/folder[[]x]/*/*.txt") == [file]
    assert input_files(with_corpus(files="data/folder[x]/*/*.txt"), "corpus") == [file]


def test_a_glob_passes_over_folders_and_what_editors_leave(project: Path) -> None:
    file = put(project / "data/a.txt")
    for name in ("a.txt~", "a.txt.bak", ".a.txt.swp", "Thumbs.db", "desktop.ini", "deep/b.txt"):
        put(project / "data" / name)
    assert files_like("data/*") == [file]


def test_two_files_of_one_name_are_two(project: Path) -> None:
    put(project / "data/a/x.txt", "1")
    put(project / "data/b/x.txt", "2")
    found = input_hashes(with_corpus(files="data/*/x.txt"), "corpus")
    assert found == {"a/x.txt": hash_of_bytes(b"1"), "b/x.txt": hash_of_bytes(b"2")}


def test_other_content_of_the_same_size_and_time_is_seen_however_large(project: Path) -> None:
    file = put(project / "weights.bin", bytes(65 * 2**20))
    stat = file.stat()
    before = hash_of(file)
    with file.open("r+b") as opened:
        opened.seek(2**25)
        opened.write(b"1")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hash_of(file) != before


def test_a_file_is_hashed_once_by_all_processes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(project / "weights.bin", bytes(2**17))
    # As if it had been written long ago; its time of change cannot be set.
    monkeypatch.setattr(fingerprints, "_SETTLED", -1.0)
    command = [sys.executable, "-c", HASH, str(file)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    (found,) = {process.communicate()[0].strip() for process in processes}
    assert found == hash_of_bytes(bytes(2**17))
    hashed = []
    monkeypatch.setattr(fingerprints, "_hash", lambda path, size: hashed.append(path) or "anew")
    assert hash_of(file) == found
    assert not hashed
    (kept,) = store().glob("*.json")
    for damage in ("", "{", "[]", '{"stamp": [1]}', kept.read_text().replace(found, "0")):
        kept.write_text(damage)
        monkeypatch.setattr(fingerprints, "_seen", {})
        assert hash_of(file) == "anew", damage


def test_what_was_just_written_is_not_kept(project: Path) -> None:
    """A file may be written again within one tick of the file system's clock."""
    file = put(project / "weights.bin", bytes(2**17))
    hash_of(file)
    assert not store().exists()
    assert not fingerprints._seen


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_the_clock_of_the_file_server_decides_what_was_just_written(
    project: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    store().parent.mkdir(exist_ok=True)
    file = put(project / "weights.bin", bytes(2**17))
    now = time.time()
    monkeypatch.setattr(fingerprints.time, "time", lambda: now + ahead)
    hash_of(file)
    assert not fingerprints._seen
    monkeypatch.setattr(fingerprints, "_SETTLED", -1.0)
    hash_of(file)
    assert list(fingerprints._seen) == [file]
