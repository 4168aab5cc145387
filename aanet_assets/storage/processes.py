"""Which process did something, and whether it still runs.

A process number means something only on one machine, from one start of it to the next, and in one
PID namespace (a container has its own). So all of that is kept beside the number. Where it is
another's, whether the process runs cannot be looked up from here: unknown is not dead.
"""

import hashlib
import os
import platform
import re
from pathlib import Path
from typing import Literal

import psutil

MARK = r"(\d+)-([0-9a-f]{8})-([0-9a-f]{8})-(\d+)"
"""What `process_mark` returns, as a regular expression: number, machine, its start, birth."""

State = Literal["running", "gone", "unknown"]
"""What became of a process. Only what is certainly gone may be tidied up after."""

# The time at which a process was born is known to a second or so only.
_INEXACT = 2
_FIRST_NAMESPACE = "pid:[4026531836]"


def process_mark() -> str:
    """What tells this process from all others, of any machine, in letters for names of files."""
    return f"{os.getpid()}-{_machine()}-{_start()}-{_born(psutil.Process())}"


def host() -> str:
    """The machine's name, for people."""
    return platform.node()


def pid_of(mark: str) -> int:
    """The process number that a mark begins with."""
    return int(mark.partition("-")[0])


def state_of(mark: str) -> State:
    """What became of the process that left this mark; "unknown" of anything that is no mark."""
    found = re.fullmatch(MARK, mark)
    if found is None:
        return "unknown"
    pid, machine, start, born = found.groups()
    if machine != _machine():
        return "unknown"
    if start == _start():
        return _look_up(int(pid), int(born))
    # This machine was started anew since; of containers on two machines that could not be said.
    return "gone" if _machine_id() and _namespace() == _FIRST_NAMESPACE else "unknown"


def has_this_kernel(mark: str) -> bool:
    """Whether the process ran under the kernel that this one runs under, maybe in a container."""
    found = re.fullmatch(MARK, mark)
    return found is not None and found[3] == _start() and bool(_boot_id())


def _look_up(pid: int, born: int) -> State:
    try:
        process = psutil.Process(pid)
        # Numbers come around again: a process that was born at another time is another one.
        is_it = abs(_born(process) - born) <= _INEXACT
        return "running" if is_it and process.status() != psutil.STATUS_ZOMBIE else "gone"
    except psutil.AccessDenied:
        return "unknown"
    except psutil.NoSuchProcess:
        return "unknown" if _is_hidden(pid) else "gone"


def _is_hidden(pid: int) -> bool:
    """Whether a process of another user is there that this one may not look at (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        pass
    return False


def _born(process: psutil.Process) -> int:
    """When a process was born, in seconds; where that is known, since the machine's start.

    So measured it stays the same when the clock is set.
    """
    return round(process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0))


def _machine() -> str:
    return _short(platform.node(), _machine_id(), _namespace())


def _start() -> str:
    return _short(_boot_id())


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _machine_id() -> str:
    return _first_line(Path("/etc/machine-id"))


def _boot_id() -> str:
    """A number drawn at each start of Linux; elsewhere the machine's name has to do."""
    return _first_line(Path("/proc/sys/kernel/random/boot_id"))


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
