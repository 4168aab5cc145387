"""Checks of pictures."""

from pathlib import Path

from PIL import Image

from aanet_assets.checks.finding import Finding, listed

PLOTS = (
    "pca_vs_geometric_rank",
    "decoder_rank_dist",
    "elbow_strength_dists",
    "recon_vs_arch_unzoomed",
    "recon_vs_arch_zoomed",
)
LEAST_COLOURS = 8
"""Smoothed edges alone give a plot with a single word more colours than this."""


def check_plots(folder: Path, n: int) -> list[Finding]:
    """Check the five plots of one n."""
    return [drawn([folder / f"{name}_n{n}.png" for name in PLOTS])]


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
