"""Checks of pictures."""

from pathlib import Path

from PIL import Image

from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding

LEAST_COLOURS = 8
"""Smoothed edges alone give a plot with a single word more colours than this."""


def drawn(pictures: list[Path]) -> Finding:
    """Whether every one of these files is a PNG that shows something."""
    problems = [f"{path.name} {problem}" for path in pictures if (problem := _problem(path))]
    named = f" ({listed(problems)})" if problems else ""
    return Finding(
        "drawn",
        not problems,
        f"{len(pictures) - len(problems)} of {len(pictures)} pictures are PNG files with at least "
        f"{LEAST_COLOURS} colours{named}; all must be",
    )


def _problem(path: Path) -> str | None:
    if not path.is_file():
        return "is not there"
    try:
        with Image.open(path, formats=["PNG"]) as image:
            # More colours than asked for are returned as None.
            colours = image.convert("RGB").getcolors(LEAST_COLOURS)
    except (OSError, SyntaxError) as error:
        return f"is not a PNG file: {error}"
    return "is blank" if colours and len(colours) < LEAST_COLOURS else None
