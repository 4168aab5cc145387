"""Writes are whole or not there at all."""

from pathlib import Path

import pytest

from aanet_assets.files import finite_or_null, replacing, write_json


def test_a_block_that_raises_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with replacing(path) as temporary:
        temporary.write_text("old")

    def interrupted(by: type[BaseException]) -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise by

    for interruption in (ValueError, KeyboardInterrupt):
        with pytest.raises(interruption):
            interrupted(interruption)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
    assert finite_or_null([1.0, float("nan"), float("inf")]) == [1.0, None, None]
