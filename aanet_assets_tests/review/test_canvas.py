"""What all plots share."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from aanet_assets.review.canvas import blank, mark_mean_and_median, save, sentence


def test_equal_pictures_are_equal_bytes_of_the_size_asked_for(tmp_path: Path) -> None:
    files = []
    for number in range(2):
        figure, (left, right) = blank("two panels", panels=2, width=5, height=3)
        left.plot([0, 1], [0, 1])
        sentence(right, "Nothing to draw.")
        files.append(save(figure, tmp_path / f"{number}.png"))
    first, second = (file.read_bytes() for file in files)
    assert first == second
    picture = imread(files[0])
    assert picture.shape[:2] == (3 * 130, 5 * 130)
    assert not list(tmp_path.glob(".*"))


def test_a_sentence_stands_where_nothing_is_drawn(tmp_path: Path) -> None:
    figure, (ax,) = blank("")
    empty = imread(save(figure, tmp_path / "empty.png"))
    sentence(ax, "No cluster has both ranks.")
    said = imread(save(figure, tmp_path / "said.png"))
    rows, columns = np.nonzero((empty != said).any(axis=-1))
    # In the middle, and without ticks.
    assert abs(np.median(rows) / len(said) - 0.5) < 0.1
    assert abs(np.median(columns) / said.shape[1] - 0.5) < 0.1
    assert not ax.get_xticks().size


def test_mean_and_median_stand_where_they_are() -> None:
    _, (ax,) = blank("")
    mark_mean_and_median(ax, [1, 2, 9])
    assert [(line.get_label(), np.ravel(line.get_xdata())[0]) for line in ax.lines] == [
        ("mean 4", 4),
        ("median 2", 2),
    ]
