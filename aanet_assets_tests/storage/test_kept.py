"""A model is loaded once for the partitions of a step that follow each other in one process."""

import shutil
from collections.abc import Iterator

import dagster as dg
import pytest

from aanet_assets.orchestration import workers
from aanet_assets.orchestration.driver import Driver
from aanet_assets.science.activations.encode import Encoder
from aanet_assets.steps.activations import activation_cache, codes_by_latent, sae_fit
from aanet_assets.steps.predictions import predictions, token_groups
from aanet_assets.storage.kept import kept, let_go
from aanet_assets.storage.records import discard_record, read_record, write_record
from aanet_assets.storage.run import Run
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study


class Model:
    """What takes long to load."""

    def __init__(self, study: Study):
        self.study = study


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    let_go()
    yield
    let_go()


def loaded(study: Study, shard: int) -> Model:
    return kept(Run(study, activation_cache.at(shard=shard)), Model)


def test_it_is_that_of_the_step_s_last_partition(copied: Study) -> None:
    first = loaded(copied, 0)
    assert first.study == copied
    let_go(activation_cache)
    assert loaded(copied, 2) is first
    # What another step's partition loads takes its place.
    assert kept(Run(copied, predictions.at(shard=2)), Model) is not first
    assert loaded(copied, 0) is not first


def test_it_is_let_go_of_once_another_step_begins(copied: Study) -> None:
    first = loaded(copied, 0)
    let_go(codes_by_latent)
    assert loaded(copied, 0) is not first


def test_shards_that_a_partition_alone_reads_do_not_matter(copied: Study) -> None:
    at = predictions.at(shard=2)
    first = kept(Run(copied, at), Model)
    write_record(copied, activation_cache.at(shard=2), "another shard", [], {})
    assert kept(Run(copied, at), Model) is first
    write_record(copied, token_groups.at(), "other groups", [], {})
    assert kept(Run(copied, at), Model) is not first


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"device": "cuda"}])
def test_another_study_has_its_own(copied: Study, change: dict[str, str]) -> None:
    first = loaded(copied, 0)
    other = small_study(**change)
    assert loaded(other, 0).study == other
    assert loaded(copied, 0) is not first


def test_another_content_of_what_is_read_is_loaded(copied: Study) -> None:
    first = loaded(copied, 0)
    write_record(copied, sae_fit.at(), "another fit", [], {})
    assert loaded(copied, 0) is not first


def test_another_content_of_the_sae_is_loaded(copied: Study) -> None:
    first = loaded(copied, 0)
    inputs = copied.paths.root.parent / "inputs"
    source = inputs.resolve()
    inputs.unlink()
    shutil.copytree(source, inputs)
    weights = inputs / "toy/sae/sae_weights.safetensors"
    assert loaded(copied, 0) is first
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert loaded(copied, 0) is not first


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Study]:
    """The studies whose model and SAE were loaded."""
    loads, start = [], Encoder.__init__

    def counted(self: Encoder, study: Study) -> None:
        loads.append(study)
        start(self, study)

    monkeypatch.setattr(Encoder, "__init__", counted)
    return loads


def test_shards_in_one_process_load_once_and_are_the_same(
    copied: Study, loads: list[Study]
) -> None:
    shards = list(activation_cache.all_of(copied))
    before = [read_record(copied, shard) for shard in shards]
    with dg.DagsterInstance.get() as instance:
        driver = Driver(copied, instance)
        for shard in shards:
            discard_record(copied, shard)
            driver.materialise(shard)
        assert len(loads) == 1
        assert [read_record(copied, shard) for shard in shards] == before
        driver.materialise(codes_by_latent.at(shard=0))
        driver.materialise(shards[0])
    assert len(loads) == 2


def test_of_several_processes_none_keeps_a_model(
    copied: Study, loads: list[Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.get() as instance:
        monkeypatch.setattr(workers, "_driver", Driver(copied, instance))
        for key in ("0", "1"):
            workers._work(activation_cache.name, key)
    assert len(loads) == 2
