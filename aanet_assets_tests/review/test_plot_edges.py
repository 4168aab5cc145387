"""Plots of tables at the edge, and what the zoomed one leaves out."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from aanet_assets.review.plots import write_plots
from aanet_assets.review.strength_plots import elbow_strength_dists, recon_vs_arch_unzoomed
from aanet_assets.review.zoomed_plot import recon_vs_arch_zoomed
from aanet_assets.science.selection.categories import limits_of
from aanet_assets.study.settings import SelectionSettings
from aanet_assets_tests.science.selection.elbow_tables import NO_ELBOW, elbow_table
from aanet_assets_tests.science.selection.tables import consolidated

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


NO_LIMITS = limits_of([], dict(SelectionSettings()))


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
    figure = recon_vs_arch_zoomed(clusters, dict.fromkeys(range(n)), NO_LIMITS, n)
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
    figure = recon_vs_arch_zoomed(clusters, dict.fromkeys(range(1000)), NO_LIMITS, 1000)
    kept = np.asarray(figure.axes[0].collections[0].get_offsets())[:, 0]
    assert 0.6 in kept
    assert figure.axes[0].get_xlim()[1] == pytest.approx(kept.mean() + 10 * kept.std(ddof=1))
    assert "1 of them beyond the axes" in figure.axes[0].get_title(loc="left")


def noisy(n: int = 30) -> pd.DataFrame:
    """Strengths of falling losses, and three that are noise: of cluster 4, 5 and (both) 6."""
    rng = np.random.default_rng(1)
    recon, arch = rng.uniform(0.2, 0.5, (2, n))
    arch[[4, 6]], recon[[5, 6]] = (710.0, 3.0), (1.5, 0.9)
    columns = {"aanet_recon_loss_elbow_strength": recon, "k_differential": 0,
               "aanet_archetypal_loss_elbow_strength": arch}  # fmt: skip
    return pd.DataFrame(columns)


def test_strengths_of_noise_flatten_no_plot_and_are_counted() -> None:
    table = noisy()
    recon, arch = elbow_strength_dists(table, 30).axes
    for ax, column, text in ((recon, 0, "2 clipped at 0.707 (up to 1.5)"),
                             (arch, 2, "2 clipped at 0.707 (up to 710)")):  # fmt: skip
        assert ax.get_xlim() == (0, 0.8)
        assert text in ax.get_title(loc="left")
        strengths = table.iloc[:, column]
        mean = strengths[strengths < 0.707].mean()
        labels = [line.get_label() for line in ax.lines]
        assert labels[0] == f"mean {mean:.3g}"
        bars = [bar for bar in ax.patches if isinstance(bar, Rectangle)]
        assert [b.get_height() for b in bars if b.get_x() > 0.74 and b.get_height()] == [2]
    (ax,) = recon_vs_arch_unzoomed(table, 30).axes
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 0.78), (0, 0.78))
    ringed = ax.collections[-1]
    assert ringed.get_label() == "3 clipped at 0.707 (up to 710)"
    offsets = np.asarray(ringed.get_offsets())
    assert (offsets.max(axis=1) == 0.76).all()
    assert offsets[2].tolist() == [0.76, 0.76]


def test_the_zoomed_plot_clips_them_too() -> None:
    table = noisy(9)
    (ax,) = recon_vs_arch_zoomed(table, dict.fromkeys(range(9)), NO_LIMITS, 9).axes
    assert (ax.get_xlim()[1], ax.get_ylim()[1]) == (0.78, 0.78)
    labels = [collection.get_label() for collection in ax.collections]
    assert "3 clipped at 0.707 (up to 710)" in labels


def test_plots_without_noise_end_where_they_did() -> None:
    table = noisy().drop(index=[4, 5, 6])
    (ax,) = recon_vs_arch_unzoomed(table, 30).axes
    assert ax.get_xlim()[1] < 0.76
    assert "clipped" not in elbow_strength_dists(table, 30).axes[0].get_title(loc="left")
