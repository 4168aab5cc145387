"""A lock in object storage: an object with the name of its holder, changed by conditional writes.

It is created only if there is none, and from then on every change names the version that it
changes, so of two who want the same change one gets it. It is never removed: a lease that was let
go is an empty object. The holder renews it every 20 s; one that was not renewed for a minute, by
the service's own clock, is anybody's.
"""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime

from aanet_assets.storage.bucket import Bucket, RemoteError, UnmetError
from aanet_assets.storage.processes import process_mark, state_of

LEASE = 60.0
"""Seconds without renewal after which others may take a lease over."""
_RENEWED = 20.0


class HeldError(Exception):
    """Another process has the lease."""

    def __init__(self, notes: Mapping[str, str]):
        super().__init__()
        self.notes = notes
        """What it wrote."""


class Lease:
    """A lease that this process has, as long as it is renewed."""

    def __init__(self, bucket: Bucket, name: str, notes: Mapping[str, str]):
        self._bucket, self._name = bucket, name
        self._notes = {**notes, "token": secrets.token_hex(8)}
        self._etag: str | None = None
        self._writing = threading.Lock()
        self._versions = 0

    def take(self) -> None:
        """Get it.

        Raises:
            HeldError: another process has it.
        """
        while True:
            self._etag, holder = look(self._bucket, self._name)
            if holder is not None:
                raise HeldError(holder)
            if self.renew():
                return

    def renew(self) -> bool:
        """Whether this process had it and has it still.

        Raises:
            RemoteError: the service cannot be asked.
        """
        self._versions += 1
        # No two versions that somebody holds are alike.
        return self._replace(f"{self._notes['token']} {self._versions}".encode())

    def let_go(self) -> None:
        """Leave it to others; where they cannot be told, it runs out."""
        with suppress(RemoteError):
            self._replace(b"")

    def _replace(self, content: bytes) -> bool:
        with self._writing:
            try:
                self._etag = self._bucket.put_if(self._name, content, self._notes, self._etag)
                return True
            except (UnmetError, FileNotFoundError):
                # The answer to a first try may have been lost on the way.
                now = self._bucket.head(self._name)
                if now is None or now["Metadata"].get("token") != self._notes["token"]:
                    return False
                self._etag = now["ETag"]
                return True


@contextmanager
def leased(bucket: Bucket, name: str, notes: Mapping[str, str]) -> Iterator[Lease]:
    """Hold a lease.

    Args:
        bucket: where it is kept.
        name: of its object.
        notes: what others are to know of the holder, in ASCII; `mark` is that of its process.

    Raises:
        HeldError: another process has it.
        RemoteError: the service cannot be used.
    """
    lease, done = Lease(bucket, name, notes), threading.Event()
    lease.take()

    def go_on() -> None:
        while not done.wait(_RENEWED):
            with suppress(RemoteError):
                lease.renew()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        lease.let_go()


def look(bucket: Bucket, name: str) -> tuple[str | None, dict[str, str] | None]:
    """A lease's version, None if there never was one; and the notes of its holder, None without."""
    found = bucket.head(name)
    if found is None:
        return None, None
    notes, now = found["Metadata"], found["ResponseMetadata"]["HTTPHeaders"]["date"]
    age = (parsedate_to_datetime(now) - found["LastModified"]).total_seconds()
    # What this very process left behind, it could not let go.
    is_over = notes["mark"] == process_mark() or state_of(notes["mark"]) == "gone"
    is_free = found["ContentLength"] == 0 or is_over or age > LEASE
    return found["ETag"], None if is_free else notes
