"""The toy, whole, with its results in a bucket of moto's server: bytes as of the local run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aanet_assets.defs import toy
from aanet_assets.storage.bucket import Bucket
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.buckets import forget_clients, make_bucket, service
from aanet_assets_tests.torture.home import PROJECT, Home, new_home

pytestmark = pytest.mark.scale
_REMOTE = "s3://results/demo"
_COMMAND = f"""
import sys
from aanet_assets.defs import toy
if sys.argv.pop(1) == "remote":
    toy.study = toy.study.model_copy(update={{"remote": "{_REMOTE}"}})
from aanet_assets.cli import commands
commands.app(sys.argv[1:])
"""
_QUERY = "SELECT n_clusters_total, cluster_id, k, category FROM selected_clusters ORDER BY ALL"


def aanet(home: Home, where: str, *arguments: str) -> str:
    """What `aanet` prints in a folder, with the toy's results kept in it or in the bucket."""
    return subprocess.run(
        [sys.executable, "-c", _COMMAND, where, *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "AANET_HOME": str(home.folder)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_the_toy_in_a_bucket_equals_the_local_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, first, second = (new_home(tmp_path / name) for name in ("local", "first", "second"))
    with service() as running:
        for name, value in running.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        forget_clients()
        make_bucket("results")
        aanet(local, "local", "run", "toy")
        aanet(first, "remote", "run", "toy")
        assert compare(StudyPaths(local.folder / "data/toy")) == []
        again = aanet(second, "remote", "run", "toy")
        assert set(re.findall(r"(\d+) made", again)) == {"0"}
        answers = {aanet(local, "local", "sql", "toy", _QUERY)}
        answers |= {aanet(home, "remote", "sql", "toy", _QUERY) for home in (first, second)}
        assert len(answers) == 1


def compare(paths: StudyPaths) -> list[str]:
    """How what the bucket holds differs from a local run, file by file, in words."""
    bucket = Bucket(f"{_REMOTE}/{toy.study.name}")
    kept = {name for name in bucket.list() if not name.startswith("locks/")}
    # What is made anew from the rest: the database, and the manifest of all n_clusters.
    passing = (".", "metrics.duckdb", "locks/", "selected_clusters/manifest.json")
    files = {path.relative_to(paths.root).as_posix(): path for path in paths.everything()}
    local = {name: path for name, path in files.items() if not name.startswith(passing)}
    return [f"{name} is only in one" for name in sorted(kept ^ local.keys())] + [
        f"{name} is another"
        for name in sorted(kept & local.keys())
        if bucket.read([name])[name] != local[name].read_bytes()
    ]
