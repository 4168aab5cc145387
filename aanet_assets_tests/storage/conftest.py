"""A study in a bucket of a real S3 server (moto's), seen from several folders."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aanet_assets.study.study import Study
from aanet_assets_tests.buckets import Service, forget_clients, make_bucket, service
from aanet_assets_tests.conftest import PROJECT, Finished
from aanet_assets_tests.small import small_study
from aanet_assets_tests.storage.remote import Enter, bucket_of


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with service() as running:
        yield running


@pytest.fixture
def enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Goes to the project's folder of this name, as to another machine; makes it if need be."""

    def enter(name: str) -> Path:
        home = tmp_path / name
        if not home.exists():
            (home / "data").mkdir(parents=True)
            (home / "data/inputs").symlink_to(PROJECT / "data/inputs")
            shutil.copy(PROJECT / "dagster.yaml", home)
        for variable in ("AANET_HOME", "DAGSTER_HOME"):
            monkeypatch.setenv(variable, str(home))
        monkeypatch.chdir(home)
        return home

    return enter


@pytest.fixture
def study(
    running: Service,
    enter: Enter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Study:
    """The small study, in an empty bucket of its own."""
    for name, value in running.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    forget_clients()
    bucket = f"test-{secrets.token_hex(8)}"
    make_bucket(bucket)
    enter("first")
    return small_study(remote=f"s3://{bucket}/some/where")


@pytest.fixture
def filled(study: Study, home: Path, finished: Finished) -> Study:
    """All of the small study is in the bucket."""
    root = home / "data/small"
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    bucket_of(study).upload(root, [name for name in names if name.split("/")[0] != "locks"])
    return study
