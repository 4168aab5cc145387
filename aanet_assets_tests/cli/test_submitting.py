"""What `aanet run --submit` and `--cancel` say."""

from pathlib import Path

import dagster as dg
import pytest

from aanet_assets.orchestration import submit
from aanet_assets.orchestration.dagster_internals import BulkActionStatus
from aanet_assets.steps.aanets import EXPORT, aanet_exports
from aanet_assets.storage.step import Finding
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import problems, said
from aanet_assets_tests.submitted import at_once, daemon

pytestmark = pytest.mark.usefixtures(at_once.__name__)


def lose_a_file(study: Study) -> Path:
    file = EXPORT.under(study.paths.root, n=7, cluster_id=2, k=3)
    file.unlink()
    return file


def test_submit_ends_with_the_summary(copied: Study, study_module) -> None:
    name = study_module("submitted")
    file = lose_a_file(copied)
    with daemon(copied):
        output = said("run", name, "--submit", code=0)
    assert "Asked Dagster for 1 partition (Study small, backfill " in output
    assert "✓ aanet_exports 1 made" in output
    assert "What was recovered of the truth at n_clusters 7" in output
    assert file.is_file()
    assert problems(copied) == []
    output = said("run", name, "--submit", code=0)
    assert "Nothing to do: all is there (" in output
    assert "Selected clusters" in output
    assert "Nothing that was submitted of study 'small'" in said("run", name, "--cancel", code=0)
    assert "takes no other option" in said("run", name, "--cancel", "--submit", code=1)


def test_submit_without_a_daemon_says_what_has_to_run(
    copied: Study, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = study_module("queued")
    lose_a_file(copied)

    def interrupt(*_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(submit.time, "sleep", interrupt)
    output = said("run", name, "--submit", code=130)
    assert "No daemon of Dagster is running here: this is queued; nothing is lost" in output
    assert "To watch again: aanet run small --submit. To cancel it: aanet run small --c" in output
    output = said("run", name, "--submit", code=130)
    assert "Watching what was submitted before: 1 partition, backfill " in output
    output = said("run", name, "--cancel", code=130)
    assert "Stopped waiting" in output
    with dg.DagsterInstance.get() as instance:
        (backfill,) = instance.get_backfills()
        assert backfill.status == BulkActionStatus.CANCELING


def test_a_failing_partition_ends_with_code_1(
    copied: Study, study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding("exported", False, "4 models, 7 expected")
    monkeypatch.setattr(aanet_exports, "check", lambda run: [finding])
    name = study_module("failing")
    lose_a_file(copied)
    with daemon(copied):
        output = said("run", name, "--submit", code=1)
    assert "✗ aanet_exports [n_clusters 7, k 3]: check exported failed: 4 models, 7 exp" in output
    assert "error 1 partition failed, as said above. What was finished is kept. To go " in output
