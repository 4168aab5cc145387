"""Numbers in sentences: short, but never so short that a sentence says what is not so."""

import math


def said(value: float | None, digits: int = 5) -> str:
    """A number in so many significant digits, a whole one in all; "none" for what is missing."""
    if isinstance(value, int):
        return str(value)
    return "none" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def exactly(value: float) -> str:
    """As short as it can be without being another number; a whole one in all its digits."""
    short = str(value) if isinstance(value, int) else f"{value:g}"
    return short if float(short) == value else repr(value)


def compared(value: float, limit: float, digits: int = 5) -> tuple[str, str]:
    """Both by `said`, in more digits where that takes to tell which of them is larger."""
    texts = said(value, digits), said(limit, digits)
    if "none" in texts:
        return texts
    short = [float(text) for text in texts]
    same = (short[0] < short[1], short[0] > short[1]) == (value < limit, value > limit)
    return texts if same else compared(value, limit, digits + 1)
