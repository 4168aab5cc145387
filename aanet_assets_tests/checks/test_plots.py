"""Pictures that are missing, damaged or blank."""

from pathlib import Path

import pytest
from PIL import Image

from aanet_assets.steps.metrics import analysis_plots
from aanet_assets.steps.selection import REPRODUCIBILITY_PLOT, reproducibility
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints


def checked(study: Study) -> dict[str, str]:
    return complaints(study, analysis_plots.at(n=7))


@pytest.fixture
def plot(study: Study) -> Path:
    return study.paths.root / "clusters_7" / "plots" / "decoder_rank_dist_n7.png"


def test_good_plots_pass(study: Study) -> None:
    assert checked(study) == {}


def test_a_plot_is_missing(study: Study, plot: Path) -> None:
    plot.unlink()
    assert checked(study) == {
        "drawn": "4 of 5 pictures are PNG files with at least 8 colours (decoder_rank_dist_n7.png "
        "is not there); all must be"
    }


@pytest.mark.parametrize("kept", [0, 20, 4000])
def test_a_plot_is_cut_off(study: Study, plot: Path, kept: int) -> None:
    plot.write_bytes(plot.read_bytes()[:kept])
    assert "decoder_rank_dist_n7.png is not a PNG file" in checked(study)["drawn"]


def test_a_picture_of_another_kind(study: Study, plot: Path) -> None:
    Image.open(plot).convert("RGB").save(plot, format="JPEG")
    assert "is not a PNG file" in checked(study)["drawn"]


def test_a_blank_plot(study: Study, plot: Path) -> None:
    Image.new("RGB", (800, 600), "white").save(plot)
    assert "decoder_rank_dist_n7.png is blank" in checked(study)["drawn"]


def test_a_picture_of_reproducibility_that_was_not_drawn(study: Study) -> None:
    partition = reproducibility.at(n=7)
    assert complaints(study, partition) == {}
    REPRODUCIBILITY_PLOT.under(study.paths.root, n=7).unlink()
    assert "reproducibility_n7.png is not there" in complaints(study, partition)["drawn"]
