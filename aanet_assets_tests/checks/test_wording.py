"""Lists in the sentences of checks: the first few by name, and how many more there are."""

import pytest

from aanet_assets.steps.checks.wording import listed


@pytest.mark.parametrize(
    ("things", "text"),
    [
        ([], ""),
        ([3], "3"),
        ("abcde", "a, b, c, d, e"),
        (range(6), "0, 1, 2, 3, 4 and 1 more"),
        ((i for i in range(17)), "0, 1, 2, 3, 4 and 12 more"),
    ],
)
def test_no_more_than_five_are_named(things: list, text: str) -> None:
    assert listed(things) == text
