"""Studies in a bucket of a real S3 server (moto's), seen from several folders and processes."""

import errno
import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aanet_assets.cli.prune import REMOVED, remove, unneeded
from aanet_assets.orchestration.pipeline import partitions_of
from aanet_assets.steps.inputs import corpus
from aanet_assets.steps.selection import selected_clusters
from aanet_assets.storage import bucket as buckets_module
from aanet_assets.storage.bucket import Bucket, DamagedError, RemoteError
from aanet_assets.storage.records import (
    Standing,
    fetch_files,
    read_record,
    record_path,
    require_upstream,
)
from aanet_assets.storage.refusals import read_refusal, write_refusal
from aanet_assets.storage.remote import pull
from aanet_assets.study.study import Study
from aanet_assets_tests.buckets import Service, forget_clients
from aanet_assets_tests.conftest import problems, said
from aanet_assets_tests.small import small_study
from aanet_assets_tests.storage.remote import CORPUS, Enter, bucket_of, make


def local_bytes(root: Path) -> dict[str, bytes]:
    """Of all files in a study's folder, but for locks."""
    files = [
        path
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name[0] != "."
    ]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_what_is_made_in_one_folder_is_there_in_another(study: Study, enter: Enter) -> None:
    make(study)
    made = local_bytes(study.paths.root)
    enter("second")
    assert Standing(study).problem(CORPUS) is None
    assert local_bytes(study.paths.root) == made, "the corpus is an input whose content is judged"


def test_a_second_folder_makes_nothing_answers_sql_and_makes_one_anew(
    filled: Study, home: Path, enter: Enter, study_module: Callable[..., str]
) -> None:
    before = local_bytes(home / "data/small")
    expected = {name: content for name, content in before.items() if "n7" in name}
    assert problems(filled) == []
    assert not list(filled.paths.root.glob("activation_cache/*")), "nothing needed it yet"

    name = study_module("remote", f"remote={filled.remote!r}")
    query = "SELECT sum(tokens) AS tokens FROM cache_shards"
    assert str(3 * 1_500 * 17) in said("sql", name, query, code=0)
    number = len(list(partitions_of(filled)))
    assert f"{number} of {number}" in said("list", code=0)
    assert "scripts that read it" in said("doctor", name, code=0)
    assert "All is well." in said("doctor", name, code=0)
    assert "There is nothing to remove." in said("prune", name, code=0)
    assert "0 made, 1 already there" in said("run", name, "--until", "sae_fit", code=0)

    make(filled, selected_clusters.at(n=7))
    assert list(filled.paths.root.glob("tables/clusters/n7.parquet")), "what it reads was fetched"
    kept = bucket_of(filled).read(expected)
    assert [name for name, content in kept.items() if content != expected[name]] == []
    enter("third")
    assert problems(filled) == []


def test_a_partition_that_another_machine_takes_away_or_changes_is_not_counted_here(
    filled: Study, enter: Enter
) -> None:
    partition = selected_clusters.at(n=7)
    fetch_files(filled, [partition] if problems(filled) == [] else [])
    table = filled.paths.tables / "selected_clusters/n7.parquet"
    assert table.is_file()
    name = record_path(filled, partition).relative_to(filled.paths.root).as_posix()
    record = json.loads(bucket_of(filled).read([name])[name])
    bucket_of(filled).write(name, json.dumps(record | {"content": "0" * 16}))
    pull(filled)
    found = read_record(filled, partition)
    assert found is not None
    assert found.content == "0" * 16
    assert not table.exists(), "its rows may be others"
    with pytest.raises(DamagedError, match="have another content than was recorded"):
        fetch_files(filled, [partition])
    bucket_of(filled).remove([name])
    assert Standing(filled).problem(partition) == "is missing"
    assert not table.exists()


def test_a_lost_object_counts_as_lost_and_another_of_its_size_as_damaged(
    study: Study, study_module: Callable[..., str]
) -> None:
    make(study)
    file = "corpus/corpus.parquet"
    size = bucket_of(study).list()[file].size
    bucket_of(study).remove([file])
    assert Standing(study).problem(CORPUS) == f"has lost its file {file}"
    (study.paths.root / file).unlink()
    assert Standing(study).problem(CORPUS) == f"has lost its file {file}"
    bucket_of(study).write(file, "x" * size)
    pull(study)
    with pytest.raises(DamagedError, match="aanet doctor small makes their partition count as"):
        fetch_files(study, [CORPUS])
    name = study_module("remote", f"remote={study.remote!r}")
    assert "1 partition with other files than recorded" in said("doctor", name, code=0)
    assert Standing(study).problem(CORPUS) == "is missing"
    make(study)
    assert Standing(study).problem(CORPUS) is None


def no_work(*arguments: object) -> None:
    raise AssertionError("it was finished already")


def test_what_could_not_be_uploaded_is_uploaded_later_without_work(
    study: Study, running: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = corpus.work

    def cut_off(*arguments):
        outcome = work(*arguments)
        running.stop()
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(corpus, "work", cut_off)
        with pytest.raises(RemoteError, match=r"cannot be used \(endpoint .*run again when"):
            make(study)
    with pytest.raises(RemoteError, match="cannot be used"):
        Standing(study)
    running.start()
    assert Standing(study).problem(CORPUS) == "is missing"
    monkeypatch.setattr(corpus, "work", no_work)
    make(study)
    assert Standing(study).problem(CORPUS) is None
    assert not list(study.paths.records.rglob("*.unsent"))


def test_what_waits_for_upload_is_made_anew_where_it_would_be_another(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "upload", lambda *_: (_ for _ in ()).throw(RemoteError("gone")))
        with pytest.raises(RemoteError):
            make(study)
    changed = study.model_copy(update={"cache": study.cache.model_copy(update={"seq_len": 9})})
    make(changed)
    assert Standing(changed).problem(CORPUS) is None
    assert Standing(study).problem(CORPUS) is not None


def test_a_kill_between_files_and_record_leaves_a_partition_that_is_missing(
    study: Study, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(study)
    made = local_bytes(study.paths.root)
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(study)
    assert "corpus/corpus.parquet" in bucket_of(study).list()
    enter("second")
    assert Standing(study).problem(CORPUS) == "is missing"
    make(study)
    enter("first")
    assert Standing(study).problem(CORPUS) is None
    assert {
        n: b for n, b in local_bytes(study.paths.root).items() if not n.endswith(".unsent")
    }.keys() == (made.keys())


def test_bad_input_is_one_sentence(
    study: Study,
    running: Service,
    monkeypatch: pytest.MonkeyPatch,
    study_module: Callable[..., str],
) -> None:
    def refusal(of: Study = study, **environment: str | None) -> str:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value) if value is not None else patch.delenv(name)
            forget_clients()
            with pytest.raises(RemoteError) as error:
                pull(of)
        forget_clients()
        return str(error.value)

    name = study_module("nowhere", "remote='s3://no-such-bucket'")
    assert "there is no bucket 'no-such-bucket' (endpoint" in said("status", name, code=1)
    assert "are missing or refused" in refusal(AWS_ACCESS_KEY_ID=None)
    nobody = "http://127.0.0.1:9"
    assert f"cannot be used (endpoint {nobody})" in refusal(AWS_ENDPOINT_URL=nobody)
    assert "cannot be used (endpoint nonsense): Invalid" in refusal(AWS_ENDPOINT_URL="nonsense")
    assert "profile (nobody) could not be found" in refusal(AWS_PROFILE="nobody")
    set_authentication(running, after=0)
    try:
        assert "are missing or refused" in refusal()
    finally:
        set_authentication(running, after=10**9)
    assert pull(study) == {"small": {}}


def set_authentication(running: Service, after: int) -> None:
    """Have moto look at credentials, which are nobody's, after so many requests."""
    address = f"http://127.0.0.1:{running.port}/moto-api/reset-auth"
    count, kind = str(after).encode(), {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(address, count, kind, method="POST"))


@pytest.mark.parametrize(
    "remote", ["results", "s3://", "gs://results", "s3://results/", "s3://a/*"]
)
def test_a_remote_that_is_no_address_is_refused(remote: str) -> None:
    with pytest.raises(ValueError, match="remote"):
        small_study(remote=remote)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    filled: Study, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull(filled)
    partition = selected_clusters.at(n=7)
    with monkeypatch.context() as patch:
        usage = shutil._ntuple_diskusage(10, 9, 1)  # pyright: ignore[reportAttributeAccessIssue]
        patch.setattr(buckets_module.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(RemoteError, match=r"has no room for what is needed of .* 1 are free"):
            make(filled, partition)

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield path

    with monkeypatch.context() as patch:
        patch.setattr(buckets_module, "replacing", full)
        with pytest.raises(RemoteError, match="has no room"):
            make(filled, partition)
    make(filled, partition)


def test_a_folder_with_results_of_its_own_is_not_taken_for_a_cache(
    study: Study, enter: Enter
) -> None:
    local = small_study()
    make(local)
    with pytest.raises(RemoteError, match="holds results that are nowhere else"):
        Standing(study)
    assert Standing(local).problem(CORPUS) is None
    enter("second")
    make(study)
    with pytest.raises(RemoteError, match=r"is a cache of s3://.*, and the study's remote is None"):
        Standing(local)
    with pytest.raises(RemoteError, match="is a cache of s3://"):
        Standing(small_study(remote="s3://another"))


def test_a_refusal_is_told_everywhere_and_ends_with_the_next_success(
    study: Study, enter: Enter
) -> None:
    pull(study)
    write_refusal(study, CORPUS, "check letters failed", [])
    enter("second")
    pull(study)
    refusal = read_refusal(study, CORPUS)
    assert refusal is not None
    assert refusal.said == "check letters failed"
    make(study)
    enter("first")
    pull(study)
    assert read_refusal(study, CORPUS) is None


def test_prune_removes_what_the_bucket_has_too_much(filled: Study, enter: Enter) -> None:
    fewer = filled.model_copy(update={"n_clusters": (7,)})
    gone = unneeded(fewer)[REMOVED]
    names = {path.relative_to(fewer.paths.root).as_posix() for path in gone}
    assert "tables/clusters/n6.parquet" in names
    assert remove(fewer, gone) == sum(gone.values()) > 0
    assert not names & bucket_of(fewer).list().keys()
    assert unneeded(fewer) == {}
    require_upstream(fewer, selected_clusters.at(n=7))


def test_a_study_that_shares_activations_finds_them_in_their_own_place(filled: Study) -> None:
    other = filled.sharing("other", n_clusters=(5,))
    pull(other)
    standing = Standing(other)
    assert standing.problem(CORPUS) is None
    assert Bucket(f"{filled.remote}/other").list() == {}
