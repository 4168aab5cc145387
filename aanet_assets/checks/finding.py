"""What a check says; and how lists of things are put into its sentence."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check of one partition."""

    name: str
    passed: bool
    said: str
    """One sentence, without a full stop: the measured value and what is allowed."""
    blocking: bool = True
    """Whether a failure keeps the partition from counting; otherwise it is a warning."""


def listed(things: Iterable[object], most: int = 5) -> str:
    """The first few things by name: `3, 5 and 12 more`."""
    named = [str(thing) for thing in things]
    if len(named) <= most:
        return ", ".join(named)
    return f"{', '.join(named[:most])} and {len(named) - most} more"
