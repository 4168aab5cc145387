"""Plots of tables at the edge, and what the zoomed one leaves out."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from aanet_assets.analysis.plots import write_plots
from aanet_assets.analysis.zoomed_plot import recon_vs_arch_zoomed
from aanet_assets.settings import SelectionSettings
from aanet_assets_tests.analysis.elbow_tables import NO_ELBOW, elbow_table
from aanet_assets_tests.analysis.tables import consolidated

WILD = {"aanet_recon_loss_elbow_strength": 21.5, "aanet_archetypal_loss_elbow_strength": 8.5}


def with_ranks(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(decoder_dir_rank=2, activation_pca_rank=3)


def ink(path: Path) -> float:
    """Share of pixels that are not white."""
    pixels = matplotlib.image.imread(path)[..., :3]
    return float((pixels < 0.95).any(axis=-1).mean())


@pytest.mark.parametrize(
    "table",
    [
        with_ranks(elbow_table([], 7)),
        with_ranks(elbow_table([{}, {}, {}], 7)),
        with_ranks(elbow_table([NO_ELBOW, {}, {"n_latents": 1}, WILD], 7)),
        elbow_table([{}, {}], 7).assign(decoder_dir_rank=np.nan, activation_pca_rank=np.nan),
        elbow_table([{"n_latents": 0, **NO_ELBOW}], 7).assign(
            decoder_dir_rank=0, activation_pca_rank=0
        ),
        elbow_table([{}, {}], 7).assign(decoder_dir_rank=900, activation_pca_rank=1),
    ],
    ids=["nothing", "equal", "mixed", "no ranks", "empty cluster", "large"],
)
def test_degenerate_tables_are_drawn(table: pd.DataFrame, tmp_path: Path) -> None:
    files = write_plots(table, SelectionSettings(), 7, tmp_path)
    assert len(files) == 5
    assert all(ink(f) > 0.005 for f in files)


def test_the_order_of_rows_changes_no_byte(tmp_path: Path) -> None:
    table = consolidated(40, failed=2)
    one = write_plots(table, SelectionSettings(), 40, tmp_path / "one")
    shuffled = table.sample(frac=1, random_state=0)
    other = write_plots(shuffled, SelectionSettings(), 40, tmp_path / "other")
    for a, b in zip(one, other, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
        assert b"Software" not in a.read_bytes()


def zoomed_points(n: int) -> tuple[np.ndarray, str]:
    """What the zoomed plot shows of n passing clusters of growing strength, and its small print."""
    strengths = np.linspace(0.2, 0.5, n)
    clusters = pd.DataFrame(
        {
            "aanet_recon_loss_elbow_strength": strengths,
            "aanet_archetypal_loss_elbow_strength": strengths[::-1],
            "k_differential": 0,
        }
    )
    figure = recon_vs_arch_zoomed(clusters, dict.fromkeys(range(n)), None, n)
    ax = figure.axes[0]
    return np.asarray(ax.collections[0].get_offsets()), ax.get_title(loc="left")


def test_zoomed_leaves_out_and_names_the_two_largest_of_each_axis() -> None:
    points, text = zoomed_points(20)
    assert len(points) == 16
    assert "left out, the two largest of each axis: 0, 1, 18, 19" in text
    points, text = zoomed_points(10)
    assert len(points) == 10
    assert "left out" not in text


def test_zoomed_ends_at_ten_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    strengths = np.concatenate([rng.normal(0.3, 0.001, 997), [0.6, 0.65, 0.7]])
    clusters = pd.DataFrame(
        {
            "aanet_recon_loss_elbow_strength": strengths,
            "aanet_archetypal_loss_elbow_strength": rng.normal(0.3, 0.001, 1000),
            "k_differential": 0,
        }
    )
    figure = recon_vs_arch_zoomed(clusters, dict.fromkeys(range(1000)), None, 1000)
    kept = np.asarray(figure.axes[0].collections[0].get_offsets())[:, 0]
    assert 0.6 in kept
    assert figure.axes[0].get_xlim()[1] == pytest.approx(kept.mean() + 10 * kept.std(ddof=1))
    assert "1 of them beyond the axes" in figure.axes[0].get_title(loc="left")
