"""Fixtures of the AANet tests."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def double() -> Iterator[None]:
    """Double precision, where a test compares two ways to the same numbers.

    In single precision Adam's first steps make rounding errors of gradients near zero as large as
    the step itself.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
