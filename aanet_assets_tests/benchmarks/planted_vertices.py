"""How far archetypes lie from planted vertices.

`python -m aanet_assets_tests.benchmarks.planted_vertices`; needs `pip install archetypes`.

Rows lie on a simplex, flat or bent onto a sphere, in 8 dimensions of a residual stream of 256. An
error is the mean distance of the archetypes from the vertices, matched one to one, in units of the
flat simplex's circumradius. Each row of the table is the mean over three concentrations of the
Dirichlet mixtures, two levels of noise and three seeds; `--cells` prints them one by one. Some
minutes on two threads for each of the networks.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from archetypes import AA  # pyright: ignore[reportMissingImports]
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from aanet_assets.science.aanet.data import ClusterRows, Task
from aanet_assets.science.aanet.extrema import with_extrema
from aanet_assets.science.aanet.linear_start import AffineMap, start_of
from aanet_assets.science.aanet.reference import simplex_vertices
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.science.selection.replicates import archetypes_of
from aanet_assets.study.settings import AANetSettings, ExtremaSettings
from aanet_assets_tests.benchmarks.training import RANDOM
from aanet_assets_tests.science.aanet.planted import random_basis

D_MODEL, RANK, ROWS, SEEDS = 256, 8, 5_000, (201, 202, 203)
KS, CONCENTRATIONS, NOISES, RADII = (3, 4), (0.3, 1.0, 1.5), (0.0, 0.1), (0.5, 1.0, 2.0, 4.0)
Points = np.ndarray


def flat(points: Points, _: float) -> Points:
    return np.column_stack([points, np.zeros(len(points))])


def stereographic(points: Points, radius: float) -> Points:
    """From the far pole of a sphere that touches the simplex at its centre."""
    squares = np.square(points).sum(axis=1, keepdims=True)
    scale = 4 * radius**2 / (4 * radius**2 + squares)
    return np.column_stack([scale * points, scale * squares / (2 * radius)])


def spherical(points: Points, radius: float) -> Points:
    """From the centre of such a sphere."""
    far = np.sqrt(np.square(points).sum(axis=1, keepdims=True) + radius**2)
    return np.column_stack([radius * points / far, radius - radius**2 / far])


class Cell(NamedTuple):
    """One planted cluster and what it should give."""

    shape: str
    radius: float | None
    k: int
    concentration: float
    noise: float
    seed: int
    rows: ClusterRows
    vertices: Points

    def error(self, found: Points | None) -> float:
        """Mean distance of what was found from the vertices."""
        if found is None:
            return float("nan")
        distances = cdist(found, self.vertices)
        return float(distances[linear_sum_assignment(distances)].mean())


def cells() -> Iterator[Cell]:
    """All planted clusters, without extrema."""
    bent = [(bend, radius) for bend in (stereographic, spherical) for radius in RADII]
    shapes: list[tuple[Callable[[Points, float], Points], float]] = [(flat, 0.0), *bent]
    chosen = product(shapes, KS, CONCENTRATIONS, NOISES, SEEDS)
    for i, ((bend, radius), k, concentration, noise, seed) in enumerate(chosen):
        rng = np.random.default_rng((seed, i))
        corners = simplex_vertices(k)
        corners /= np.linalg.norm(corners[0])
        mixed = rng.dirichlet(np.full(k, concentration), ROWS * 10 // 9) @ corners
        turn = random_basis(RANK, k, rng).T
        rows = bend(mixed, radius) @ turn + noise * rng.standard_normal((len(mixed), RANK))
        rows = rows.astype(np.float32)
        basis = random_basis(D_MODEL, RANK, rng)
        own = ClusterRows(i, basis, rows[:ROWS], rows[ROWS:], rows[:0])
        yield Cell(
            bend.__name__, radius or None, k, concentration, noise, seed, own,
            bend(corners, radius) @ turn,
        )  # fmt: skip


def extreme(cell: Cell, settings: ExtremaSettings) -> Cell:
    """The cell with diffusion extrema."""
    return cell._replace(rows=with_extrema(cell.rows, cell.k, settings, cell.seed))


def networks(planted: list[Cell], settings: AANetSettings) -> list[Points | None]:
    """The archetypes of AANets."""
    tasks = [Task(cell.rows, cell.k, cell.seed) for cell in planted]
    return [archetypes_of(model, settings) for model in train_aanets(tasks, settings)]


def closed_form(cell: Cell) -> Points | None:
    """Where the linear start has its vertices."""
    start = start_of(Task(cell.rows, cell.k, 0), AANetSettings())
    if not isinstance(start, AffineMap):
        return None
    return simplex_vertices(cell.k) @ start.back.T + start.back_offset


def linear_analysis(cell: Cell) -> Points:
    """Archetypal analysis (Cutler and Breiman, 1994) of 1,000 rows."""
    model = AA(n_archetypes=cell.k, init="furthest_sum", max_iter=300, random_state=cell.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(cell.rows.train[:1_000].astype(np.float64)).archetypes_


def methods() -> Iterator[tuple[str, list[Points | None]]]:
    """Name and archetypes of every method, the cheap ones first."""
    planted = list(cells())
    yield "linear archetypal analysis", [linear_analysis(cell) for cell in planted]
    yield "closed form", [closed_form(cell) for cell in planted]
    for knn in (150, 30):
        found = [extreme(cell, ExtremaSettings(knn=knn)) for cell in planted]
        yield f"extrema, knn {knn}", [cell.rows.extrema for cell in found]
        ways = {
            "random": RANDOM,
            "linear": {},
            "linear, extrema kept": {"extrema_fade": 0},
            "linear, no pull": {"start_pull": 0},
            "linear, pull 10": {"start_pull": 10},
        }
        for name, changes in ways.items():
            yield f"{name}, knn {knn}", networks(found, AANetSettings(**changes))
    yield "linear, no extrema", networks(planted, AANetSettings())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", action="store_true", help="every planted cluster on its own")
    every = parser.parse_args().cells
    planted = list(cells())
    named = ("shape", "radius", "k", "concentration", "noise")
    table = pd.DataFrame([{name: getattr(cell, name) for name in named} for cell in planted])
    for name, archetypes in methods():
        table[name] = [cell.error(own) for cell, own in zip(planted, archetypes, strict=True)]
        print(name, f"mean {table[name].mean():.3f}", flush=True)
    by = list(named if every else named[:3])
    means = table.groupby(by, dropna=False, sort=False)[list(table.columns[len(named) :])].mean()
    print(means.round(3).T.to_string())


if __name__ == "__main__":
    main()
