"""Alive, dead, not yet buried, and another process with the same number."""

import os
import subprocess
import sys
import time

import psutil

from aanet_assets.processes import is_running


def test_a_running_process_and_one_that_had_its_number_before() -> None:
    born = psutil.Process().create_time()
    assert is_running(os.getpid(), born)
    assert is_running(os.getpid(), time.time())
    assert not is_running(os.getpid(), born - 60)


def test_a_killed_process_is_gone_even_before_its_parent_has_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_running(process.pid, time.time())
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not is_running(process.pid, time.time())
    assert not is_running(process.pid, time.time())
