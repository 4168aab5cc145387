"""Writes are whole or not there at all."""

import ast
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aanet_assets.storage.files import (
    abandoned,
    finite_or_null,
    replacing,
    temporary_files,
    write_json,
    write_text,
)
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.elsewhere import in_another_namespace, of_another_machine


def test_a_block_that_raises_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with replacing(path) as temporary:
        temporary.write_text("old")

    def interrupted(by: type[BaseException]) -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise by

    for interruption in (ValueError, KeyboardInterrupt):
        with pytest.raises(interruption):
            interrupted(interruption)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
    assert finite_or_null([1.0, float("nan"), float("inf")]) == [1.0, None, None]


def test_temporary_files_are_abandoned_once_their_writer_is_gone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aanet_assets.storage.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('writing', flush=True); input()"
    )
    path = tmp_path / "deep" / "file.json"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert abandoned(tmp_path) == []
        process.kill()
    left = abandoned(tmp_path)
    assert [file.read_text() for file in left] == ["half"]
    assert str(process.pid) in left[0].name
    with replacing(path):
        assert abandoned(tmp_path) == left


@in_another_namespace
def test_a_file_that_another_container_writes_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aanet_assets.storage.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('whole'); print('writing', flush=True); input()"
    )
    path = tmp_path / "rows.json"
    unshare = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen(
        [*unshare, sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert list(temporary_files(tmp_path).values()) == ["unknown"]
        assert abandoned(tmp_path) == []
        process.communicate(b"\n")
    assert path.read_text() == "whole"


def test_temporary_files_of_other_machines_and_earlier_versions_are_left_alone(
    tmp_path: Path,
) -> None:
    with replacing(tmp_path / "file.json") as temporary:
        mark = temporary.name.removeprefix(".file.json.").rpartition("-")[0]
        other = temporary.with_name(temporary.name.replace(mark, of_another_machine(mark)))
    earlier = tmp_path / ".file.json.999999-abcd_123.tmp"
    log = other.with_name(f"{other.name}.wal")
    for path in (other, earlier, log):
        path.touch()
    assert temporary_files(tmp_path) == dict.fromkeys(sorted((other, earlier, log)), "unknown")
    assert abandoned(tmp_path) == []


def test_files_get_the_permissions_of_any_other_and_the_umask_stays(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text")
        (tmp_path / "other").touch()
        modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "other")}
        assert modes == {0o640}
    finally:
        os.umask(before)


def test_no_thread_sees_another_umask_while_files_are_written(tmp_path: Path) -> None:
    """The umask is the whole process's: set even for a moment, it opens others' files to all."""
    seen, done = set(), threading.Event()

    def create() -> None:
        number = 0
        while not done.is_set():
            number += 1
            path = tmp_path / f"other_{number % 10}"
            path.unlink(missing_ok=True)
            path.touch()
            seen.add(stat.S_IMODE(path.stat().st_mode))

    before = os.umask(0o077)
    thread = threading.Thread(target=create)
    try:
        thread.start()
        for _ in range(200):
            write_text(tmp_path / "file", "text")
    finally:
        done.set()
        thread.join()
        os.umask(before)
    assert seen == {0o600}


def _text_without_encoding(path: Path) -> list[str]:
    """Calls that read or write text by whatever the locale says."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        called = ast.unparse(node.func)
        is_file = called == "open" or (
            # Not what has other arguments, as `Image.open(path)`.
            called.endswith(".open") and all(isinstance(a, ast.Constant) for a in node.args)
        )
        is_binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in node.args)
        if called.endswith((".read_text", ".write_text")) or (is_file and not is_binary):
            found.append(f"{path.name}:{node.lineno}")
    return found


def test_text_is_utf8_whatever_the_locale() -> None:
    sources = [*(PROJECT / "aanet_assets").rglob("*.py"), *(PROJECT / "docs").glob("*.py")]
    assert [place for path in sources for place in _text_without_encoding(path)] == []


def test_the_new_name_is_on_the_disk_before_anything_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = [], os.fsync

    def watch(opened: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{opened}"), (tmp_path / "a").exists()))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", watch)
    write_text(tmp_path / "a", "content")
    (content, before), (folder, after) = synced
    assert content.endswith(".tmp")
    assert not before
    assert (folder, after) == (str(tmp_path), True)
