"""The five plots: there, not blank, the same bytes again, and in words where nothing is to draw."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aanet_assets.review.plots import write_plots
from aanet_assets.study.settings import SelectionSettings
from aanet_assets_tests.science.selection.tables import consolidated

NAMES = ["pca_vs_geometric_rank", "decoder_rank_dist", "elbow_strength_dists",
         "recon_vs_arch_unzoomed", "recon_vs_arch_zoomed"]  # fmt: skip


def drawn(path: Path) -> float:
    """Share of pixels that are not white."""
    return float((np.asarray(Image.open(path).convert("L")) < 250).mean())


@pytest.mark.parametrize(
    ("n", "failed", "ks"),
    [(60, 5, (2, 3, 4, 5, 6, 7, 8)), (7, 0, (2, 3, 4)), (1, 0, (2, 3, 4)), (3, 3, (2, 3, 4)),
     (4, 0, (2, 3))],
)  # fmt: skip
def test_five_plots_whatever_there_is(
    n: int, failed: int, ks: tuple[int, ...], tmp_path: Path
) -> None:
    table = consolidated(n, ks=ks, failed=failed)
    paths = write_plots(table, SelectionSettings(), n, tmp_path)
    assert [path.name for path in paths] == [f"{name}_n{n}.png" for name in NAMES]
    assert all(drawn(path) > 0.005 for path in paths)
    before = [path.read_bytes() for path in paths]
    write_plots(table, SelectionSettings(), n, tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_plots_show_their_data(tmp_path: Path) -> None:
    one = write_plots(consolidated(60, seed=1), SelectionSettings(), 60, tmp_path / "1")
    other = write_plots(consolidated(60, seed=2), SelectionSettings(), 60, tmp_path / "2")
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(one, other, strict=True))
