"""One Dagit and one browser for all tests here, and pictures of what the browser shows.

Pictures go into a test's temporary folder, or into the folder that AANET_SCREENSHOTS names. With
AANET_BROWSER_REQUIRED, tests fail where they would be skipped for want of a browser.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from aanet_assets_tests.browser.dagit import Dagit
from aanet_assets_tests.conftest import PROJECT, Finished

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_BINARIES = ("chromium", "chromium-browser", "google-chrome")
_SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_PATIENCE = 180_000
"""Milliseconds that anything may take: other work may keep the machine busy."""


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("AANET_BROWSER_REQUIRED"):
        pytest.fail(f"AANET_BROWSER_REQUIRED is set, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A running browser; without Playwright or Chromium, the tests are skipped."""
    if find_spec("playwright") is None:
        _do_without("Playwright is not installed")
    import playwright.sync_api as api

    binary = next(filter(None, map(shutil.which, _BINARIES)), None)
    if binary is None:
        _do_without(f"no browser: none of {', '.join(_BINARIES)} is installed")
    api.expect.set_options(timeout=_PATIENCE)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(_SWITCHES))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def dagit(
    browser: "Browser",
    home: Path,
    finished: Finished,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Dagit]:
    """Dagit on a copy of the finished small study, with one row of the grid still to be made."""
    folder = tmp_path_factory.mktemp("dagit") / "home"
    shutil.copytree(home, folder, symlinks=True)
    dagit = Dagit(folder)
    with dagit.running():
        dagit.make(8, "cluster_rows")
        dagit.wait_until_ready()
        yield dagit


@pytest.fixture
def page(browser: "Browser", dagit: Dagit, tmp_path: Path) -> Iterator["Page"]:
    """A page of its own for each test, with nothing remembered from others."""
    page = browser.new_page(viewport={"width": 1440, "height": 800})
    page.set_default_timeout(_PATIENCE)
    yield page
    page.close()


@pytest.fixture
def picture(page: "Page", tmp_path: Path) -> Callable[[str], None]:
    """Keeps what the page shows as `dagit_<name>.png`."""
    folder = PROJECT / os.environ.get("AANET_SCREENSHOTS", tmp_path)

    def keep(name: str) -> None:
        page.mouse.move(0, 0)  # no hint of what happens to be under the pointer
        page.screenshot(path=folder / f"dagit_{name}.png")

    return keep


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test says where the picture of its page and Dagit's log are."""
    report = yield
    fixtures: dict[str, Any] = item.funcargs
    # Other tests have pages of their own under this name.
    if report.failed and report.when == "call" and "page" in fixtures and "dagit" in fixtures:
        page = fixtures["page"]
        path = fixtures["tmp_path"] / "failed.png"
        page.screenshot(path=path)
        where = f"{path}, of {page.url}\nDagit's log: {fixtures['dagit'].log}"
        report.sections.append(("Picture of the page", where))
    return report
