"""Processes of another machine or container."""

import shutil
import subprocess

import pytest


def of_another_machine(mark: str) -> str:
    """The mark of a process with the same number on another machine."""
    pid, _, _, born = mark.split("-")
    return f"{pid}-00000000-00000000-{born}"


def _can_unshare() -> bool:
    command = ["unshare", "--pid", "--uts", "--fork", "--mount-proc", "true"]
    return shutil.which("unshare") is not None and not subprocess.run(command).returncode


in_another_namespace = pytest.mark.skipif(
    not _can_unshare(), reason="making PID namespaces takes root and Linux"
)
