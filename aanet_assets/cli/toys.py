"""`aanet train-toy`: transformer and SAE of a process whose answer is known, and their study."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from aanet_assets.cli import project
from aanet_assets.cli.terminal import console, enter_home, stop


def train_toy(
    process: Annotated[
        str, typer.Option(help="union7, union22: the larger one, or a JSON file (docs/toy.md).")
    ] = "union7",
    into: Annotated[
        Path | None, typer.Option(help="Folder for model and SAE; by default where it is shipped.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the transformer.")] = 0,
    sae_seed: Annotated[int, typer.Option(help="Seed of the SAE.")] = 10,
) -> None:
    """Train a toy's transformer and SAE from nothing (docs/toy.md has the recipe).

    For a process of a file it writes the study, too, where there is none of its name.
    """
    from aanet_assets.toy.train import recipe_of
    from aanet_assets.toy.train import train_toy as train

    is_file = process.endswith(".json")
    # A path is the user's own, from where they are.
    path = Path(process).resolve()
    home = enter_home()
    if is_file:
        process = str(path.relative_to(home) if path.is_relative_to(home) else path)
    try:
        recipe = recipe_of(process)
        into = into or Path(recipe.folder)
        components = len(recipe.process.components)
        study = project.toy_study(process, components, into) if is_file else None
    except ValueError as error:
        raise stop(error) from None
    logging.basicConfig(format="%(message)s")
    logging.getLogger("aanet").setLevel(logging.INFO)
    train(into, recipe, seed=seed, sae_seed=sae_seed)
    console.print(f"written to {into}: model/, sae/ and training.json")
    if study is not None:
        file = project.write_study(study, path.stem)
        console.print(f"the study is {file}. Next: aanet run {path.stem}", soft_wrap=True)
