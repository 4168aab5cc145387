"""The lock of one file, whatever the disk.

It is the operating system's and ends with its process, however that ends. Where a disk has no such
locks, as some that many machines share, a lease stands in: a file that its holder touches every
20 s, and that others take over when they have seen it untouched for a minute.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
LEASE = 60.0
"""Seconds for which a lease must be seen untouched before another process takes it over."""


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[BaseFileLock]:
    """Hold a file's lock; wait for it as long as it takes, or for `timeout` seconds.

    To see whether a lease is still held takes longer than that.

    Raises:
        TimeoutError: another process holds it.
    """
    # The library's own stand-in is a file that would outlive its process.
    lock: BaseFileLock = FileLock(path, timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        patience = timeout if timeout < 0 else timeout + 1.5 * LEASE
        lock = SoftFileLease(path.with_suffix(".lease"), lease_duration=LEASE, timeout=patience)
        lock.acquire()
    try:
        yield lock
    finally:
        lock.release()
