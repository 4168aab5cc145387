"""The page of `aanet serve` as a person uses it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aanet_assets.explore.server import Explorer
from aanet_assets_tests.explore.texts import active_text, silent_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def expect(locator):
    from playwright.sync_api import expect as expecting

    return expecting(locator)


@pytest.fixture
def shown(browser: "Browser", explorer: Explorer) -> Iterator["Page"]:
    """The page; nothing may go wrong in its script, and nothing comes from elsewhere."""
    page, errors = browser.new_page(viewport={"width": 1300, "height": 1000}), []
    url = f"http://127.0.0.1:{explorer.server_port}/"

    def elsewhere(asked: str) -> None:
        if not asked.startswith((url, "data:")):
            errors.append(asked)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda asked: elsewhere(asked.url))
    page.set_default_timeout(180_000)
    page.goto(url)
    expect(page.locator("#cluster option")).to_have_count(7)
    yield page
    assert errors == []
    page.close()


def test_a_prompt_is_coloured_and_drawn_token_by_token(
    shown: "Page", explorer: Explorer, tmp_path: Path
) -> None:
    simplex = explorer.study.simplex(7, 0)
    text = active_text(simplex)
    active = int(simplex.project(text)["active"].sum())
    expect(shown.locator("#cluster")).to_have_value("0")
    shown.locator("#text").press_sequentially(text)
    expect(shown.locator("#how")).to_contain_text(f"{active} of 17 tokens are active")
    expect(shown.locator("#tokens .active")).to_have_count(active)
    expect(shown.locator("#tokens")).to_have_text(text)
    expect(shown.locator("#simplex .dot")).to_have_count(active)
    expect(shown.locator("#simplex .edge")).to_have_count(3)
    expect(shown.locator("#next tbody tr")).to_have_count(12)
    shown.screenshot(path=tmp_path / "explorer.png", full_page=True)


def test_the_point_is_dragged_and_moved_by_keys(shown: "Page", explorer: Explorer) -> None:
    simplex = explorer.study.simplex(7, 0)
    text = active_text(simplex)
    shown.locator("#text").fill(text)
    point, rows = shown.locator("#simplex .point"), shown.locator("#next tbody tr")
    expect(rows).to_have_count(12)
    corner = shown.locator("#simplex text", has_text="vertex 2").bounding_box()
    box = point.bounding_box()
    assert box is not None
    assert corner is not None
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.mouse.down()
    # Beyond the corner: it stays inside.
    shown.mouse.move(corner["x"] + corner["width"] / 2, corner["y"] - 5, steps=5)
    shown.mouse.up()
    expect(shown.locator("#edit")).to_contain_text(
        re.compile(r"\(0\.0\d, 0\.0\d, (1\.00|0\.9\d)\)")
    )
    after = {row.locator("td").nth(0).inner_text(): row.locator("td").nth(2).inner_text()
             for row in rows.all()}  # fmt: skip
    there = simplex.put(text, (0, 0, 1)).set_index("token")["after"]
    for token, value in after.items():
        assert float(value) == pytest.approx(there[token], abs=0.05)
    expect(point).to_be_focused()
    shown.keyboard.press("Shift+ArrowDown")
    expect(shown.locator("#edit")).not_to_contain_text("1.00)")
    before = point.get_attribute("aria-label")
    shown.keyboard.press("ArrowLeft")
    expect(point).not_to_have_attribute("aria-label", before or "")
    expect(point).to_be_focused()
    shown.get_by_role("button", name="put at vertex 1").click()
    expect(shown.locator("#edit")).to_contain_text("(0.00, 1.00, 0.00)")


def test_lines_and_tetrahedra_are_drawn_too(shown: "Page", explorer: Explorer) -> None:
    for cluster, k, edges in (("3", "2", 1), ("1", "4", 6)):
        text = active_text(explorer.study.simplex(7, int(cluster), int(k)))
        shown.locator("#cluster").select_option(cluster)
        shown.locator("#k").select_option(k)
        shown.locator("#text").fill(text)
        expect(shown.locator("#simplex .edge")).to_have_count(edges)
        expect(shown.locator("#put button")).to_have_count(int(k))
        expect(shown.locator("#next tbody tr")).to_have_count(12)
    shown.get_by_role("button", name="put at vertex 3").click()
    expect(shown.locator("#edit")).to_contain_text("(0.00, 0.00, 0.00, 1.00)")


def test_what_is_wrong_is_a_sentence_on_the_page(shown: "Page", explorer: Explorer) -> None:
    problem = shown.locator("#problem")
    expect(problem).to_have_text("type a prompt")
    shown.locator("#text").fill(silent_text(explorer.study.simplex(7, 0)))
    expect(problem).to_have_text("The cluster is active at no token of this prompt.")
    expect(shown.locator("#simplex .dot")).to_have_count(0)
    expect(shown.locator("#next tbody tr")).to_have_count(0)
    shown.locator("#text").fill("日本 😀 <b>")
    expect(shown.locator("#tokens")).to_have_text("日本 😀 <b>")
    shown.route("**/api/project", lambda route: route.abort())
    shown.locator("#text").fill("a1")
    expect(problem).to_contain_text("the server does not answer")
