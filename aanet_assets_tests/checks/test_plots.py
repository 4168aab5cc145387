"""Pictures that are missing, damaged or blank."""

from pathlib import Path

import pytest
from PIL import Image

from aanet_assets.steps.checks.plots import check_plots
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.checks.damage import failures


def checked(paths: StudyPaths) -> dict[str, str]:
    return failures(check_plots(paths.root / "clusters_7" / "plots", 7))


@pytest.fixture
def plot(paths: StudyPaths) -> Path:
    return paths.root / "clusters_7" / "plots" / "decoder_rank_dist_n7.png"


def test_good_plots_pass(paths: StudyPaths) -> None:
    assert checked(paths) == {}


def test_a_plot_is_missing(paths: StudyPaths, plot: Path) -> None:
    plot.unlink()
    assert checked(paths) == {
        "drawn": "4 of 5 pictures are PNG files with at least 8 colours (decoder_rank_dist_n7.png "
        "is not there); all must be"
    }


@pytest.mark.parametrize("kept", [0, 20, 4000])
def test_a_plot_is_cut_off(paths: StudyPaths, plot: Path, kept: int) -> None:
    plot.write_bytes(plot.read_bytes()[:kept])
    assert "decoder_rank_dist_n7.png is not a PNG file" in checked(paths)["drawn"]


def test_a_picture_of_another_kind(paths: StudyPaths, plot: Path) -> None:
    Image.open(plot).convert("RGB").save(plot, format="JPEG")
    assert "is not a PNG file" in checked(paths)["drawn"]


def test_a_blank_plot(paths: StudyPaths, plot: Path) -> None:
    Image.new("RGB", (800, 600), "white").save(plot)
    assert "decoder_rank_dist_n7.png is blank" in checked(paths)["drawn"]
