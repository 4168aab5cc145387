"""How lists of things are put into the sentence of a check."""

from collections.abc import Iterable


def listed(things: Iterable[object], most: int = 5) -> str:
    """The first few things by name: `3, 5 and 12 more`."""
    named = [str(thing) for thing in things]
    if len(named) <= most:
        return ", ".join(named)
    return f"{', '.join(named[:most])} and {len(named) - most} more"
