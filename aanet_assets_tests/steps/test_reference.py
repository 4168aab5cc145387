"""The reference of steps and tables says what the declarations say."""

import runpy

from aanet_assets_tests.conftest import PROJECT


def test_the_pages_are_those_that_make_docs_writes() -> None:
    pages = runpy.run_path(str(PROJECT / "docs/reference.py"))["PAGES"]
    for name, page in pages.items():
        there = (PROJECT / "docs" / name).read_text(encoding="utf-8")
        assert there == page(), f"docs/{name} is old: run `make docs`"
