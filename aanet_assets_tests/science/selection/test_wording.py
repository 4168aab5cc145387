"""Numbers in sentences are short, and never say what is not so."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aanet_assets.science.selection.wording import compared, exactly, said

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)


@given(numbers)
def test_exactly_is_the_number_itself(value: float) -> None:
    assert float(exactly(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "0.05"), (1e-7, "1e-07"), (123456789, "123456789"), (0.123456789, "0.123456789")],
)
def test_exactly_is_as_short_as_it_can_be(value: float, text: str) -> None:
    assert exactly(value) == text


@given(numbers, numbers, st.integers(1, 6))
def test_compared_texts_stand_to_each_other_as_the_numbers_do(
    value: float, limit: float, digits: int
) -> None:
    first, second = map(float, compared(value, limit, digits))
    assert (first < second, first > second) == (value < limit, value > limit)


def test_digits_are_added_only_where_it_takes_them() -> None:
    assert compared(0.84321, 0.8, 3) == ("0.843", "0.8")
    assert compared(0.79996, 0.8, 3) == ("0.79996", "0.8")
    assert compared(math.nan, 0.8) == ("none", "0.8")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (math.nan, "none"), (123456789, "123456789"), (0.123456789, "0.12346")],
)
def test_what_is_missing_is_none_and_whole_numbers_are_whole(
    value: float | None, text: str
) -> None:
    assert said(value) == text
