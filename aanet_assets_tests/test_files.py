"""Writes are whole or not there at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aanet_assets.files import abandoned, finite_or_null, replacing, write_json


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


def test_temporary_files_are_abandoned_once_their_writer_is_gone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from aanet_assets.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print('writing', flush=True); input()"
    )
    path = tmp_path / "deep" / "file.json"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert abandoned(tmp_path) == []
        process.kill()
    left = abandoned(tmp_path)
    assert [file.read_text() for file in left] == ["half"]
    assert str(process.pid) in left[0].name
    with replacing(path):
        assert abandoned(tmp_path) == left
