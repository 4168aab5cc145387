"""The review page as a person uses it, opened as a file by a browser without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, consolidated_metrics
from aanet_assets.steps.review import PAGE
from aanet_assets.study import settings as groups
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.outputs import read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


NONE = "\u2013"
"""What the page shows for what is not there."""


@pytest.fixture
def shown(browser: "Browser", finished: Finished) -> Iterator["Page"]:
    """The page of the small study at n_clusters 7; nothing may go wrong in its script."""
    context = browser.new_context(
        viewport={"width": 1500, "height": 1400},
        offline=True,
        permissions=["clipboard-read", "clipboard-write"],
    )
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(180_000)
    page.goto(PAGE.under(finished.study.paths.root, n=7).as_uri())
    page.locator("#cluster h2").wait_for()
    yield page
    assert errors == []
    context.close()


def expect(locator):
    from playwright.sync_api import expect as expecting

    return expecting(locator)


def test_it_opens_on_a_selected_cluster_with_its_simplex_and_texts(
    shown: "Page", tmp_path: Path
) -> None:
    expect(shown.locator("header p")).to_contain_text("2 of 7 clusters selected (elbow mode)")
    expect(shown.locator("#cluster h2")).to_contain_text("Cluster 0")
    expect(shown.locator("#cluster .panel .plot-container")).to_have_count(4)
    expect(shown.locator("#cluster h3")).to_have_count(3)
    # The study asks the model nothing.
    expect(shown.locator("#cluster .use > *")).to_have_count(0)
    # Each sample has its trigger words marked.
    quotes = shown.locator("#cluster blockquote")
    assert quotes.count() > 0
    assert all(quote.locator("mark").count() > 0 for quote in quotes.all())
    shown.screenshot(path=tmp_path / "review.png")


def test_a_point_says_what_it_is_and_a_click_opens_its_cluster(shown: "Page") -> None:
    points = shown.locator("#chart .points path")
    expect(points).to_have_count(7)
    # Plotly listens on a layer above its points, so that the pointer itself has to go there.
    box = points.nth(5).bounding_box()
    assert box is not None
    where = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.mouse.move(*where)
    expect(shown.locator("#chart .hovertext")).to_contain_text("latents")
    text = shown.locator("#chart .hovertext").text_content()
    assert text is not None
    number = text.split("cluster ")[1].split(",")[0]
    shown.mouse.click(*where)
    expect(shown.locator("#cluster h2")).to_contain_text(f"Cluster {number}:")
    expect(shown.locator("tr.picked td").first).to_have_text(number)


def test_a_cluster_that_is_not_selected_has_a_simplex_but_no_text(shown: "Page") -> None:
    shown.locator("tr[data-cluster='1']").click()
    expect(shown.locator("#cluster h2")).to_contain_text("Cluster 1")
    expect(shown.locator("#cluster .panel .plot-container")).to_have_count(4)
    assert shown.locator("#cluster h3").count() >= 2
    expect(shown.locator("#cluster blockquote")).to_have_count(0)
    expect(shown.locator("#cluster .hint").last).to_contain_text("the study selects")


def test_every_plot_draws(shown: "Page") -> None:
    for i in range(shown.locator("#plot option").count()):
        shown.locator("#plot").select_option(index=i)
        drawn = "#chart .points path, #chart .point path"
        # Of so short a training, no cluster has elbows that pass the elbow mode's filters.
        if "pass the quality filters" in shown.locator("#plot option").nth(i).inner_text():
            drawn = "#chart .annotation"
        expect(shown.locator(drawn).first).to_be_visible()


def test_a_slider_changes_the_selection_and_the_settings_to_copy(
    shown: "Page", finished: Finished
) -> None:
    shown.locator("[value=geometric]").check()
    shown.locator("#max_q").fill("1")
    counts = []
    for fit in ("0", "0.8", "1"):
        shown.locator("#min_fit").fill(fit)
        text = shown.locator("#chosen").inner_text()
        counts.append(int(text.split(" of 7")[0]))
        selected = shown.locator("#clusters tbody td:nth-child(3)").all_inner_texts()
        # Two are manual picks, whatever the thresholds.
        assert (selected.count("S"), selected.count("M")) == (counts[-1] - 2, 2)
    assert counts[0] == 7
    assert counts[0] > counts[1] >= counts[2]
    shown.locator("#copy").click()
    expected = {
        "selection": finished.study.selection.model_copy(update={"mode": "geometric"}),
        "controls": finished.study.controls.model_copy(update={"min_fit": 1.0, "max_q": 1.0}),
    }
    copied = shown.evaluate("navigator.clipboard.readText()")
    assert (
        eval(f"dict({copied})", {name: getattr(groups, name) for name in dir(groups)}) == expected
    )


def test_the_elbow_modes_rules_are_those_of_the_platform(shown: "Page", finished: Finished) -> None:
    from aanet_assets.science.selection.filters import select_clusters
    from aanet_assets.study.settings import SelectionSettings

    study = finished.study
    metrics = read(study, consolidated_metrics.at(n=7), CONSOLIDATED_METRICS)
    shown.locator("[value=elbow]").check()
    cases = [
        dict(zip(("a_sd", "b_sd", "c_sd", "d_sd"), sds, strict=True))
        for sds in ((0.0, 0.0, 0.0, 0.0), (0.5, 0.3, 1.0, -0.5), (5.0, 1.5, 0.2, 5.0))
    ]
    cases += [
        {"recon_monotonic": False, "arch_monotonic": False, "max_k_differential": 2},
        {"min_recon_pct_decrease": 0, "min_arch_pct_decrease": 0, "a_sd": 0.3, "b_sd": 0.5},
        {"min_latents": 4, "d_sd": -1.0},
        {"max_k_differential": 0, "min_recon_pct_decrease": 60},
    ]
    changed, seen = {}, set()
    for case in cases:
        for name, value in case.items():
            if isinstance(value, bool):
                shown.locator(f"#{name}").set_checked(value)
            else:
                shown.locator(f"#{name}").fill(str(value))
        changed |= case
        settings = study.selection.model_copy(update=changed)
        expected = select_clusters(metrics, SelectionSettings(**settings.model_dump()), 7)
        categories = expected.verdicts.sort_values("cluster_id")["category"].fillna(NONE).tolist()
        assert shown.locator("#clusters tbody td:nth-child(3)").all_inner_texts() == categories
        seen.update(categories)
    assert len(seen) > 3, "so many categories must have been seen for this to be a test"


def test_rows_can_be_filtered_and_sorted(shown: "Page") -> None:
    shown.locator("th", has_text="latents").click()
    sizes = shown.locator("#clusters tbody td:nth-child(2)").all_inner_texts()
    assert [int(size) for size in sizes] == sorted(int(size) for size in sizes)
    shown.locator("#filter").fill("manual pick")
    expect(shown.locator("#clusters tbody tr")).to_have_count(2)
    shown.locator("#clusters tbody tr").last.click()
    expect(shown.locator("#cluster p").first).to_contain_text("manual pick")
