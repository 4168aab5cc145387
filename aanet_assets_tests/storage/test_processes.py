"""Alive, dead, not yet buried, another with the same number; and those of other machines."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from aanet_assets.storage import processes
from aanet_assets.storage.processes import has_this_kernel, pid_of, process_mark, state_of
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.elsewhere import in_another_namespace, of_another_machine

_SAY_MARK = (
    "from aanet_assets.storage.processes import process_mark; "
    "print(process_mark(), flush=True); input()"
)


def marked_process(*before: str) -> subprocess.Popen[str]:
    """A process that prints its mark and waits."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", _SAY_MARK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )


def said_mark(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_this_process_runs_and_one_that_had_its_number_before_does_not() -> None:
    mark = process_mark()
    assert (pid_of(mark), state_of(mark)) == (os.getpid(), "running")
    head, _, born = mark.rpartition("-")
    assert state_of(f"{head}-{int(born) + 60}") == "gone"


def test_the_clock_may_be_set_while_a_process_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = process_mark()
    hour = 3600.0
    boot, born = psutil.boot_time(), psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot + hour)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: born(process) + hour)
    assert state_of(mark) == "running"


def test_a_killed_process_is_gone_even_before_its_parent_has_noticed() -> None:
    with marked_process() as process:
        mark = said_mark(process)
        assert state_of(mark) == "running"
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert state_of(mark) == "gone"
    assert state_of(mark) == "gone"


def test_of_a_process_of_another_machine_nothing_is_known() -> None:
    for mark in (of_another_machine(process_mark()), "1234", "", "1234-x-y-z"):
        assert state_of(mark) == "unknown"
        assert not has_this_kernel(mark)


def test_before_a_new_start_of_this_machine_nothing_runs_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_machine_id", lambda: "3d1219c7")
    monkeypatch.setattr(processes, "_namespace", lambda: "pid:[4026531836]")
    before = process_mark()
    monkeypatch.setattr(processes, "_boot_id", lambda: "another")
    assert state_of(before) == "gone"
    # Containers of two machines may have all else in common.
    monkeypatch.setattr(processes, "_namespace", lambda: "pid:[4026532179]")
    in_container = process_mark()
    monkeypatch.setattr(processes, "_boot_id", lambda: "a third")
    assert state_of(in_container) == "unknown"


def test_a_process_that_another_user_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = process_mark()

    def hidden(pid: int | None = None) -> psutil.Process:
        raise psutil.NoSuchProcess(pid or 0)

    def refused(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(psutil, "Process", hidden)
    monkeypatch.setattr(os, "kill", refused)
    assert state_of(mark) == "unknown"


@in_another_namespace
def test_a_process_of_another_container_is_not_gone(tmp_path: Path) -> None:
    unshare = ("unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")
    with marked_process(*unshare) as process:
        mark = said_mark(process)
        assert pid_of(mark) < 100, "it counts from one"
        assert state_of(mark) == "unknown"
        assert has_this_kernel(mark)
        process.communicate("\n")
    assert state_of(mark) == "unknown"
