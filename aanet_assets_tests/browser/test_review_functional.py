"""The functional evidence as a person sees it: pictures drawn by a browser from made-up tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from aanet_assets.review import contents
from aanet_assets.review.functional import TOKENS, TOKENS_OF_OTHERS, functional
from aanet_assets.review.page import write_page
from aanet_assets.science.selection.evidence import NEIGHBOURS
from aanet_assets.science.selection.rules import MODES
from aanet_assets.study.settings import BeliefSettings, ControlSettings, SelectionSettings
from aanet_assets_tests.review.asked_tables import KS, NONE, STATISTICS, asked_tables

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

ASKED = asked_tables()
_OUTSIDE = """
drawing => [...drawing.querySelectorAll("text, circle, rect, polygon")].filter(part => {
  const [own, all] = [part, drawing].map(one => one.getBoundingClientRect());
  const beyond = [all.left - own.left, own.right - all.right, all.top - own.top];
  return Math.max(...beyond, own.bottom - all.bottom) > 1;
}).map(part => part.outerHTML)
"""
"""Parts of a drawing that its frame cuts off."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of clusters of which nothing is known but the functional evidence; one has a model."""
    evidence = ASKED.evidence[~ASKED.evidence["null_cluster"]].set_index("cluster_id")
    names = {name for mode, own in MODES.items() for name in (*own.columns, *contents.DRAWN[mode])}
    clusters = [
        {
            **dict.fromkeys(names),
            "id": i,
            "latents": list(range(5)),
            "reconLoss": [2, 1],
            "archLoss": [1, 2],
            "selected": i == 0,
            **{word: "" for mode in MODES for word in (mode, f"{mode}Reason")},
            **{name: contents.exact(evidence.loc[i, name]) for name in STATISTICS},
        }
        for i in range(NONE + 1)
    ]
    model = {
        "k": 3,
        "curve": {"steps": [1, 2], "loss": [2, 1]},
        "points": [[1000, 0, 0], [0, 1000, 0], [0, 0, 1000]],
        "vertices": 3 * [{"latents": [[0, 1.0]]}],
    }
    page = {
        "summary": "made up",
        "ks": [2, 3],
        **contents.settings(SelectionSettings(), ControlSettings(), BeliefSettings()),
        "clusters": clusters,
        "shapes": {},
        "bands": contents.bands(None, [2, 3]),
        "details": {0: model},
        "functional": functional(ASKED, {0}),
    }
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(path, "made up", page)
    return path


@pytest.fixture(scope="module")
def shown(browser: "Browser", written: Path) -> "Iterator[Page]":
    context = browser.new_context(viewport={"width": 1500, "height": 1400}, offline=True)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(180_000)
    page.goto(written.as_uri())
    page.locator("#cluster .use h2").wait_for()
    yield page
    assert errors == []
    context.close()


def opened(shown: "Page", cluster_id: int) -> "Locator":
    """The functional part of a cluster's panel."""
    shown.locator(f"tr[data-cluster='{cluster_id}']").click()
    shown.locator(f"#cluster h2:has-text('Cluster {cluster_id}:')").wait_for()
    return shown.locator("#cluster .use")


def own(table: pd.DataFrame, cluster_id: int) -> pd.DataFrame:
    """Rows of a real cluster."""
    real = ~table["null_cluster"] if "null_cluster" in table.columns else True
    return table[(table["cluster_id"] == cluster_id) & real]


def test_every_statistic_is_drawn_among_null_clusters_with_its_p_and_q(shown: "Page") -> None:
    rows = opened(shown, 0).locator("#strips .row")
    names = [row.get_attribute("data-statistic") or "" for row in rows.all()]
    assert sorted(names) == sorted(STATISTICS)
    evidence = own(ASKED.evidence, 0).iloc[0]
    for name, row in zip(names, rows.all(), strict=True):
        text = row.inner_text()
        assert f"{evidence[name]:.3g}" in text, name
        if name == "context":
            assert "no p-value: its limit alone is asked" in text
        else:
            p, q = (f"{evidence[f'{name}_{letter}']:.2g}" for letter in "pq")
            assert f"p {p}, q {q}" in text
        # Of 120 null clusters those nearest in size; the 20 of forty latents are not.
        assert row.locator(".null").count() == NEIGHBOURS == 100
    missing = opened(shown, 1).locator("[data-statistic=two_step_r2]")
    assert "not known: fewer than 100 pairs of steps have operators" in missing.inner_text()
    assert missing.locator("svg").count() == 0


def test_the_limit_that_is_drawn_moves_with_the_control(shown: "Page") -> None:
    strip = opened(shown, 0).locator("[data-statistic=kl_explained]")
    shown.locator("[value=functional]").check()
    assert "(>= 0.95)" in strip.inner_text()
    left = strip.locator("rect").get_attribute("x")
    shown.locator("#min_kl_explained").fill("0.7")
    assert "(>= 0.7)" in strip.inner_text()
    moved = strip.locator("rect").get_attribute("x")
    assert left is not None
    assert moved is not None
    assert float(moved) < float(left)
    shown.locator("#min_kl_explained").fill("0.95")


@pytest.mark.parametrize("cluster_id", range(NONE))
def test_tokens_lie_in_the_simplex_beside_the_response_along_an_edge(
    shown: "Page", cluster_id: int
) -> None:
    figures = opened(shown, cluster_id).locator(".maps figure")
    captions = figures.locator("figcaption").all_inner_texts()
    assert captions[:2] == [
        "probability that '␣the' is next",
        "probability that '↵' or one of 53 other tokens is next",
    ]
    tokens, doses = own(ASKED.tokens, cluster_id), own(ASKED.doses, cluster_id)
    first = tokens.iloc[0]
    for rank, figure in enumerate(figures.all()):
        points = figure.locator(".token")
        assert points.count() == (TOKENS if cluster_id == 0 else TOKENS_OF_OTHERS)
        told = points.first.locator("title").text_content() or ""
        places = [float(part.split()[1]) for part in told.split(": ")[0].split(", ")]
        np.testing.assert_allclose(places, first["coordinates"], atol=6e-4)
        assert float(told.split(": ")[1]) == pytest.approx(first["probabilities"][rank], abs=6e-5)
        table = doses[doses["rank"] == rank]
        titles = figure.locator(".dose title").all_text_contents()
        assert len(titles) == len(table)
        for title, row in zip(titles, table.to_dict("records"), strict=True):
            found = [float(part.split()[-1]) for part in title.replace(",", ":").split(":")]
            expected = [row["coordinate"], row["probability"], row["mixture"]]
            np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-3)
            assert title.startswith(f"v{row['to_vertex']} ")
        line = figure.locator(".mixture").get_attribute("points") or ""
        places = np.array([pair.split(",") for pair in line.split()], dtype=float)
        np.testing.assert_allclose(np.diff(places, n=2, axis=0), 0, atol=1e-2)


def test_points_are_nearest_to_the_vertex_that_they_are_nearest_to(shown: "Page") -> None:
    """The corners' own places are those of tokens that are nearly there."""
    figure = opened(shown, 0).locator(".maps figure").first
    names = {name: figure.locator(f"text:text-is('{name}')").first.bounding_box() for name in
             ("v0", "v1", "v2")}  # fmt: skip
    b = np.stack(own(ASKED.tokens, 0)["coordinates"].tolist())[:TOKENS]
    for vertex, name in enumerate(names):
        at, label = figure.locator(".token").nth(int(b[:, vertex].argmax())), names[name]
        box = at.bounding_box()
        assert box is not None
        apart = {
            other: abs(box["x"] - own["x"]) + abs(box["y"] - own["y"])
            for other, own in names.items()
            if own is not None
        }
        assert label is not None
        assert min(apart, key=lambda other: apart[other]) == name


def test_the_chain_stands_beside_the_truth_where_there_is_one(shown: "Page") -> None:
    for cluster_id, k in enumerate(KS[:3]):
        figures = opened(shown, cluster_id).locator(".chains figure")
        chain = own(ASKED.chains, cluster_id)
        assert figures.count() == (2 if cluster_id == 0 else 1)
        cells = figures.first.locator(".cell")
        assert cells.count() == k * k
        for cell, row in zip(cells.all(), chain.to_dict("records"), strict=True):
            value, interval = cell.locator("text").all_text_contents()
            assert float(value) == pytest.approx(row["probability"], abs=6e-4)
            low, high = map(float, interval.split("\u2013"))
            assert (low, high) == pytest.approx((row["low"], row["high"]), abs=6e-4)
    true = opened(shown, 0).locator(".chains figure").nth(1).locator(".cell").all_text_contents()
    assert true == [f"{p:.3f}" for p in own(ASKED.chains, 0)["true_probability"]]


def test_steering_has_bars_with_controls(shown: "Page") -> None:
    def steered(cluster_id: int) -> dict[str | None, str]:
        rows = opened(shown, cluster_id).locator("[data-steered]").all()
        return {row.get_attribute("data-steered"): row.inner_text() for row in rows}

    first = steered(0)
    values = {"reached": "0.98", "true_reached": "0.988", "random": "0.1", "random_in_span": "-0.5",
              "other_cluster": "0.2", "removed": "-12.5"}  # fmt: skip
    assert {name: text.split()[-1] for name, text in first.items()} == values
    second = steered(1)
    assert set(second) == set(values) - {"true_reached"}
    assert "there is no other cluster" in second["other_cluster"]
    bars = [
        opened(shown, 0).locator(f"[data-steered={name}] rect") for name in ("reached", "random")
    ]
    wide, narrow = (float(bar.get_attribute("width") or 0) for bar in bars)
    assert wide / narrow == pytest.approx(9.8)


def test_what_is_not_known_says_why_in_words(shown: "Page") -> None:
    part = opened(shown, NONE)
    text = part.inner_text()
    assert text.count("ot known: no simplex: its rows do not vary") == len(STATISTICS) + 3
    assert part.locator("svg").count() == 0
    assert "Not known: 4 tokens for 6 vertices." in opened(shown, 3).inner_text()


@pytest.mark.parametrize("width", [1500, 1000])
def test_no_drawing_is_cut_off(shown: "Page", width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 1400})
    for cluster_id in range(NONE):
        part = opened(shown, cluster_id)
        box, drawings = part.bounding_box(), part.locator("svg").all()
        assert box is not None
        assert len(drawings) > 6
        for drawing in drawings:
            assert drawing.evaluate(_OUTSIDE) == []
            place = drawing.bounding_box()
            assert place is not None
            assert place["x"] + place["width"] <= box["x"] + box["width"] + 1


def test_the_keyboard_goes_where_it_went(shown: "Page") -> None:
    assert opened(shown, 0).locator("[tabindex], a, button, input").count() == 0
