"""Whether a process that left its number behind still runs."""

import psutil

# The time at which a process was born is known to a second or so only.
_INEXACT = 2.0


def is_running(pid: int, at: float) -> bool:
    """Whether the process that had this number at the Unix time `at` still runs.

    Numbers come around again: a process that was born later than `at` is another one.
    """
    try:
        process = psutil.Process(pid)
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        return not is_dead and process.create_time() <= at + _INEXACT
    except psutil.NoSuchProcess:
        return False
