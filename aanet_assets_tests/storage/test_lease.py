"""Of several folders that share a bucket one at a time does what only one may."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from aanet_assets.storage import lease as leases
from aanet_assets.storage.bucket import Bucket
from aanet_assets.storage.lease import HeldError, Lease
from aanet_assets.storage.locks import (
    BusyError,
    LostLeaseError,
    nothing_being_made,
    partition_lock,
    submit_lock,
)
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import PROJECT
from aanet_assets_tests.storage.remote import CORPUS, Enter, bucket_of, make

_HOLD = """
import sys
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.locks import partition_lock, submit_lock
from aanet_assets_tests.small import small_study

study = small_study(remote=sys.argv[1])
with {held}:
    print("held", flush=True)
    input()
"""


@contextmanager
def holder(
    study: Study, home: Path, held: str = "partition_lock(study, corpus.at())"
) -> Iterator[subprocess.Popen]:
    """Another process, in a folder of its own, that makes the corpus or does something else."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD.format(held=held), str(study.remote)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "AANET_HOME": str(home)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_two_folders_do_not_make_one_partition_at_once(study: Study, enter: Enter) -> None:
    with holder(study, enter("other")) as process:
        enter("first")
        with pytest.raises(BusyError, match=f"made right now by process {process.pid}, since"):
            make(study)
        with pytest.raises(BusyError, match="made right now"), nothing_being_made(study):
            pass
        process.kill()
        process.wait()
        make(study)
    with nothing_being_made(study):
        pass


def test_of_two_folders_one_at_a_time_asks_for_what_is_missing(study: Study, enter: Enter) -> None:
    """What is submitted twice would be made twice; no lock of a disk is seen by both."""
    asked = threading.Event()

    def ask() -> None:
        with submit_lock(study):
            asked.set()

    with holder(study, enter("other"), "submit_lock(study)") as process:
        enter("first")
        second = threading.Thread(target=ask)
        second.start()
        assert not asked.wait(3)
        process.communicate("\n")
        second.join()
    assert asked.is_set()
    # It is no lock of a partition.
    with nothing_being_made(study):
        pass


def test_of_many_that_want_a_lease_one_gets_it(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "process_mark", lambda: f"of {threading.get_ident()}")
    outcomes: list[str] = []
    start = threading.Barrier(6)

    def want() -> None:
        lease = Lease(bucket_of(study), "locks/some.lease", {"mark": leases.process_mark()})
        start.wait()
        try:
            lease.take()
            outcomes.append("got")
        except HeldError:
            outcomes.append("held")

    for _ in range(2):
        # The second time the one that is there was not renewed for long enough, and all see that.
        if outcomes:
            time.sleep(3)
            monkeypatch.setattr(leases, "LEASE", 2.0)
        outcomes.clear()
        threads = [threading.Thread(target=want) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["got", *["held"] * 5]


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
@pytest.mark.parametrize(("age", "is_held"), [(30, True), (90, False)])
def test_only_the_services_clock_says_how_old_a_lease_is(
    monkeypatch: pytest.MonkeyPatch, ahead: float, age: float, is_held: bool
) -> None:
    now = datetime.fromtimestamp(round(time.time() + ahead), tz=UTC)
    answer = {
        "ETag": "1",
        "ContentLength": 1,
        "LastModified": now - timedelta(seconds=age),
        "Metadata": {"mark": "another"},
        "ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(now, usegmt=True)}},
    }
    monkeypatch.setattr(Bucket, "head", lambda self, name: answer)
    assert (leases.look(Bucket("s3://results"), "locks/some.lease")[1] is not None) == is_held


def test_a_lease_that_was_taken_over_is_lost(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    with partition_lock(study, CORPUS) as require_held:
        require_held()
        monkeypatch.setattr(leases, "process_mark", lambda: "another")
        with pytest.raises(HeldError):
            Lease(bucket_of(study), "locks/corpus/all.lease", {"mark": "another"}).take()
        monkeypatch.setattr(leases, "LEASE", -1.0)
        Lease(bucket_of(study), "locks/corpus/all.lease", {"mark": "another"}).take()
        with pytest.raises(LostLeaseError, match="the lease on it was lost"):
            require_held()
    assert leases.look(bucket_of(study), "locks/corpus/all.lease")[0] is not None
