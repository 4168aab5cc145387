"""An S3 service on this machine (moto's), and what AWS's clients are to know of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("moto", reason="the package `moto[server]` is not installed")
pytest.importorskip("s3fs", reason="the extra `s3` is not installed")

from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem


@contextmanager
def service() -> Iterator["Service"]:
    """One that runs; what it held is kept by this process for the next one."""
    started = Service()
    started.start()
    try:
        yield started
    finally:
        started.stop()


class Service:
    """An S3 service that can be stopped, and started again where it was."""

    port = 0

    def start(self) -> None:
        """Go on, or begin."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self) -> None:
        """Answer nobody."""
        self._server.stop()

    def environment(self, folder: Path) -> dict[str, str]:
        """What a client needs; `folder` is empty, so that no settings of this machine count."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "2",
        }


def forget_clients() -> None:
    """Clients are remembered with the environment in which they were made."""
    S3FileSystem.clear_instance_cache()


def make_bucket(name: str) -> None:
    """A new, empty one."""
    S3FileSystem().mkdir(name)
