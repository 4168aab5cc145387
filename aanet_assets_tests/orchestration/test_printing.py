"""What a step prints is kept where Dagit shows it, and leaves the terminal to the progress bar."""

from contextlib import nullcontext
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution import compute_logs

from aanet_assets.orchestration.driver import Driver
from aanet_assets.steps.activations import codes_by_latent
from aanet_assets.storage.records import discard_record
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome
from aanet_assets.study.study import Study


def test_it_is_in_its_log_and_nowhere_else(
    copied: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    work, shown = codes_by_latent.work, []

    def printing(run: Run) -> Outcome:
        print("a word of the step's")
        return work(run)

    def on_the_terminal(path: str, _: object) -> nullcontext[None]:
        shown.append(path)
        return nullcontext()

    monkeypatch.setattr(codes_by_latent, "work", printing)
    monkeypatch.setattr(compute_logs, "tail_to_stream", on_the_terminal)
    partition = codes_by_latent.at(shard=0)
    discard_record(copied, partition)
    with dg.DagsterInstance.get() as instance:
        Driver(copied, instance).materialise(partition)
    assert shown == []
    assert compute_logs.tail_to_stream is on_the_terminal
    assert "a word of the step's" not in capfd.readouterr().out
    logs = Path(copied.paths.root.parent / ".dagster/compute_logs").rglob("*.out")
    assert [file.read_text() for file in logs if file.stat().st_size] == ["a word of the step's\n"]
