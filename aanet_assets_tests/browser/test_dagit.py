"""What a user does in Dagit, in the order in which they would."""

import re
from typing import TYPE_CHECKING

from aanet_assets.defs import gemma_2_9b
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets_tests.browser.dagit import Dagit
from aanet_assets_tests.browser.study import study_with

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def expect(*what):
    """Playwright's own, imported late: Playwright need not be there for tests to be skipped."""
    from playwright.sync_api import expect

    return expect(*what)


def visit(page: "Page", dagit: Dagit, path: str) -> None:
    """Open a page; Dagit keeps connections open, so that it never counts as loaded."""
    page.goto(dagit.url + path, wait_until="domcontentloaded")


def show_graph(page: "Page", dagit: Dagit, study: str, other: str) -> None:
    """The graph of one study, with all groups open."""
    # Dagit draws no assets that lie outside the window.
    page.set_viewport_size({"width": 1600, "height": 1400})
    visit(page, dagit, "/")
    page.locator("a[href='/asset-groups']").click()
    expect(page.get_by_text(f"{other}_2_review").first).to_be_visible()
    page.locator(".CodeMirror").click()
    page.keyboard.insert_text(f'key:"{study}/*"')
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"{other}_2_review")).to_have_count(0)
    expect(page.locator("foreignObject").first).to_be_visible()
    page.get_by_text("Global asset lineage").click()  # out of the search
    page.keyboard.press("Alt+e")


def node(page: "Page", asset: str) -> "Locator":
    """An asset in the graph, which may cut the middle out of a long name."""
    shown = re.compile(rf"^({asset}|{asset[:4]}\w*…\w*{asset[-4:]})$")
    return page.locator("foreignObject").get_by_text(shown)


def open_launch_dialog(page: "Page", dagit: Dagit, asset: str) -> None:
    visit(page, dagit, f"/assets/small/{asset}?view=partitions")
    expect(page.get_by_text("Failed (0)")).to_be_visible()
    page.get_by_role("button", name="Materialize").first.click()


def launch(page: "Page", what: str) -> None:
    page.get_by_role("button", name=f"Launch {what}").click()


def latest_run(page: "Page", dagit: Dagit, asset: str, partition: str) -> "Locator":
    """The run that last materialised a partition, on the page of that partition."""
    visit(page, dagit, f"/assets/small/{asset}?view=partitions&partition={partition}")
    expect(page.get_by_text("Materialized", exact=True)).to_be_visible()
    return page.locator("a[href^='/runs/']").first


def test_the_graph_shows_every_asset(page: "Page", dagit: Dagit) -> None:
    # The toys have more assets than Dagit draws in one window.
    show_graph(page, dagit, gemma_2_9b.study.name, other="small")
    for step in steps_of(gemma_2_9b.study):
        expect(node(page, step.name)).to_be_visible()


def test_one_partition_turns_green(page: "Page", dagit: Dagit) -> None:
    open_launch_dialog(page, dagit, "aanet_models")
    expect(page.get_by_text("Missing (3)")).to_be_visible()
    for dimension in ("3", "8"):
        page.get_by_text("Select a partition or create one").first.click()
        entry = page.get_by_role("menuitem").filter(has=page.get_by_text(dimension, exact=True))
        entry.click()
        page.keyboard.press("Escape")
    launch(page, "1 run")
    expect(page.get_by_text("Materialized (7)")).to_be_visible()
    expect(page.get_by_text("Missing (2)")).to_be_visible()
    latest_run(page, dagit, "aanet_models", "3%7C8")


def test_a_backfill_turns_the_missing_partitions_green(page: "Page", dagit: Dagit) -> None:
    open_launch_dialog(page, dagit, "aanet_models")
    for dimension in (0, 1):
        page.get_by_role("button", name="All", exact=True).nth(dimension).click()
    page.get_by_text("Backfill only failed and missing partitions").click()
    launch(page, "backfill")
    expect(page.get_by_text("Materialized (9)")).to_be_visible()
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    latest_run(page, dagit, "aanet_models", "3%7C7")


def test_a_partition_shows_its_plot(page: "Page", dagit: Dagit) -> None:
    visit(page, dagit, "/assets/small/consolidated_metrics?view=partitions&partition=7")
    page.get_by_role("row").filter(has_text="elbow_curves").get_by_text("Show Markdown").click()
    plot = page.get_by_role("dialog").get_by_role("img", name="elbow curves")
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.complete && image.naturalWidth") >= 400


def test_changed_metrics_start_stage_3_by_themselves(page: "Page", dagit: Dagit, picture) -> None:
    before = latest_run(page, dagit, "vertex_samples", "7").inner_text()
    dagit.seed += 1
    for n in (7, 8):
        dagit.make(n, "aanet_exports", "aanet_metrics", "cluster_shapes", "replicates")
    visit(page, dagit, "/deployment/locations")
    page.get_by_role("button", name="Reload all").click()
    visit(page, dagit, "/locations/small/sensors/small_stage3_when_metrics_change")
    # 7 because its metrics changed, 8 because its row is complete; 6 is stale and has to wait.
    expect(page.get_by_text("2 runs requested").first).to_be_visible()
    picture("sensor")
    page.get_by_text("Runs", exact=True).last.click()
    expect(page.get_by_text("Success", exact=True)).to_have_count(2)
    for asset in ("selected_clusters", "refit_models", "vertex_samples"):
        for n in ("7", "8"):
            expect(latest_run(page, dagit, asset, n)).not_to_have_text(before)
            expect(page.get_by_role("link", name="small_stage3")).to_be_visible()
    show_graph(page, dagit, "small", other="toy")
    green = page.locator("foreignObject [style*='background-green']")
    expect(green).to_have_count(len(steps_of(study_with(dagit.seed))))
    picture("graph")


def test_the_schedule_is_one_switch(page: "Page", dagit: Dagit) -> None:
    visit(page, dagit, "/locations/small/schedules/small_fill_grid")
    switch = page.get_by_role("checkbox")
    expect(switch).not_to_be_checked()
    switch.locator("..").click()
    expect(page.get_by_text("Next tick")).to_be_visible()
    expect(switch).to_be_checked()
    page.reload(wait_until="domcontentloaded")
    expect(switch).to_be_checked()
