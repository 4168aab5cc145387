"""Which groups of sparse-autoencoder latents form simplices: a data platform on Dagster."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aanet_assets.explore.opened import open_study
    from aanet_assets.explore.simplex import Simplex

__all__ = ["Simplex", "open_study"]


def __getattr__(name: str) -> Any:
    """What is for notebooks; importing the package loads no torch until it is asked for."""
    if name == "open_study":
        from aanet_assets.explore.opened import open_study

        return open_study
    if name == "Simplex":
        from aanet_assets.explore.simplex import Simplex

        return Simplex
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
