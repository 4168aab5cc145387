"""What `aanet doctor` says of what it can mend, and of what it cannot."""

import pytest

from aanet_assets.cli import doctor
from aanet_assets.cli.doctor import Problem
from aanet_assets_tests.conftest import said


def refuse() -> None:
    raise ValueError("file.parquet cannot be read")


def test_what_cannot_be_mended_is_said_and_the_rest_is_mended(
    study_module, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, mended = study_module("kept"), []
    found = [
        Problem("one thing", "a meaning", "removed", refuse),
        Problem("another", "a meaning", "removed", lambda: mended.append("another")),
    ]
    monkeypatch.setattr(doctor, "findings", lambda study, instance: iter(found))
    output = said("doctor", name, code=1)
    assert "could not be mended: file.parquet cannot be read" in output
    assert mended == ["another"]
    assert "without --dry-run: removed" in said("doctor", name, "--dry-run", code=1)
    assert mended == ["another"]
    monkeypatch.setattr(doctor, "findings", lambda study, instance: iter(()))
    assert said("doctor", name, code=0).strip() == "All is well."
