"""Object storage: the few things that are done with it, and its errors in words.

Where the service is and who asks is said by AWS's own environment and files (`AWS_ENDPOINT_URL`,
`AWS_ACCESS_KEY_ID`, `~/.aws/config`).
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aanet_assets.storage.files import replacing

_AT_ONCE = 8
_REFUSED = {
    "403", "AccessDenied", "ExpiredToken", "Forbidden", "InvalidAccessKeyId", "InvalidToken",
    "SignatureDoesNotMatch",
}  # fmt: skip
_UNMET = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_NOT_THERE = {"404", "NoSuchKey"}


class RemoteError(ConnectionError):
    """Object storage cannot be used, or what it holds cannot; the message is for people."""


class DamagedError(RemoteError):
    """What is kept is not what was recorded."""


class UnmetError(Exception):
    """An object is not, or no longer, what a conditional request takes it for."""


class Listed(NamedTuple):
    """An object as a listing shows it."""

    size: int
    etag: str
    """Changes with the content."""


@dataclass(frozen=True)
class Bucket:
    """The objects under one address, by the rest of their names."""

    url: str

    def list(self) -> dict[str, Listed]:
        """All objects, as they are now."""
        with self._service() as fs:
            found = fs.find(self.url, detail=True)
        start = len(self.url.removeprefix("s3://")) + 1
        return {
            name[start:]: Listed(at["size"], at["ETag"])
            for name, at in found.items()
            if at["type"] == "file"
        }

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """The content of small objects; those that are gone are left out."""
        found: dict[str, bytes] = {}

        def get(fs: Any, name: str) -> None:
            with suppress(FileNotFoundError):
                found[name] = fs.cat_file(f"{self.url}/{name}")

        self._each(get, names)
        return found

    def write(self, name: str, content: str) -> None:
        """Replace a small object."""
        with self._service() as fs:
            fs.pipe_file(f"{self.url}/{name}", content.encode())

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone already are passed over."""
        self._each(lambda fs, name: fs.rm_file(f"{self.url}/{name}"), names)

    def upload(self, root: Path, names: Iterable[str]) -> None:
        """Replace objects by the files of these names under a folder."""
        self._each(lambda fs, name: fs.put_file(str(root / name), f"{self.url}/{name}"), names)

    def download(self, root: Path, sizes: Mapping[str, int]) -> None:
        """Replace files of these names, and sizes in bytes, under a folder by the objects.

        Raises:
            DamagedError: an object is not there.
            RemoteError: there is no room for them, or the service cannot be used.
        """
        if not sizes:
            return
        root.mkdir(parents=True, exist_ok=True)
        needed, free = sum(sizes.values()), shutil.disk_usage(root).free
        room = (
            f"{root} has no room for what is needed of {self.url}: {needed:,} bytes, and {free:,} "
            "are free. Make some, then run again; what is finished may be removed from the folder, "
            "since it is fetched again when it is needed"
        )
        if needed > free:
            raise RemoteError(room)

        def get(fs: Any, name: str) -> None:
            with replacing(root / name) as temporary:
                fs.get_file(f"{self.url}/{name}", str(temporary))

        try:
            self._each(get, sizes)
        except FileNotFoundError:
            raise DamagedError(
                f"an object of {self.url} that a record names is not there any more: if no other "
                "machine is making its partition anew right now, aanet run does"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RemoteError(room) from None
            raise

    def put_if(self, name: str, content: bytes, notes: dict[str, str], etag: str | None) -> str:
        """Write a small object if it is still the one with this ETag; if None, if there is none.

        Args:
            name: of the object.
            content: of the object.
            notes: its metadata, in ASCII.
            etag: of the version that is replaced.

        Returns:
            The new ETag.

        Raises:
            UnmetError: it is another one by now, or there is one.
            FileNotFoundError: it is gone.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._service() as fs:
            bucket, key, _ = fs.split_path(f"{self.url}/{name}")
            return fs.call_s3(
                "put_object", Bucket=bucket, Key=key, Body=content, Metadata=notes, **condition
            )["ETag"]

    def head(self, name: str) -> dict[str, Any] | None:
        """What S3 answers when it is asked for an object's metadata; None if there is none."""
        with suppress(FileNotFoundError), self._service() as fs:
            bucket, key, _ = fs.split_path(f"{self.url}/{name}")
            return fs.call_s3("head_object", Bucket=bucket, Key=key)
        return None

    def _each(self, act: Callable[[Any, str], None], names: Iterable[str]) -> None:
        with self._service() as fs, ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(lambda name: act(fs, name), names):
                pass

    @contextmanager
    def _service(self) -> Iterator[Any]:
        """The file system of fsspec; what goes wrong with it is said in words.

        Raises:
            RemoteError: the service cannot be reached, or refuses.
            FileNotFoundError: an object is not there.
            UnmetError: a condition is not met.
        """
        import fsspec

        try:
            # Others change what is there: a listing is never remembered.
            fs = fsspec.filesystem("s3", use_listings_cache=False)
            from aiohttp import ClientError as ConnectionFault
            from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        except ImportError:
            raise RemoteError(
                f'{self.url} needs the package s3fs: pip install "aanet-assets[s3]"'
            ) from None
        try:
            yield fs
        except RemoteError:
            raise
        except NoCredentialsError as error:
            raise RemoteError(self._refusal("AccessDenied", str(error))) from None
        except (BotoCoreError, ConnectionFault, ConnectionError, TimeoutError, ValueError) as error:
            raise RemoteError(
                f"{self.url} cannot be used ({_endpoint()}): {' '.join(str(error).split())}. What "
                "is finished is kept; run again when it can be used"
            ) from None
        except (ClientError, OSError) as error:
            answer = error if isinstance(error, ClientError) else error.__cause__
            if not isinstance(answer, ClientError):
                raise  # The fault of a local file.
            code = answer.response.get("Error", {}).get("Code", "")
            if code in _NOT_THERE:
                raise FileNotFoundError(str(error)) from None
            if code in _UNMET:
                raise UnmetError(str(error)) from None
            raise RemoteError(self._refusal(code, str(answer))) from None

    def _refusal(self, code: str, words: str) -> str:
        if code == "NoSuchBucket":
            name = self.url.removeprefix("s3://").partition("/")[0]
            return (
                f"there is no bucket {name!r} ({_endpoint()}), in which the study's remote puts "
                "its results: make it, or correct the remote"
            )
        if code in _REFUSED:
            return (
                f"credentials for {self.url} are missing or refused ({_endpoint()}): {words}. Set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to those of a user "
                "who may list, read, write and delete there"
            )
        return f"{self.url} refuses ({_endpoint()}): {words}"


def _endpoint() -> str:
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return f"endpoint {own}" if own else "endpoint of AWS"
