"""`aanet train-toy`: transformer and SAE of a process whose answer is known, and their study."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from aanet_assets.cli import project
from aanet_assets.cli.terminal import console, enter_home, stop
from aanet_assets.study.study import process_path


def train_toy(
    process: Annotated[
        str,
        typer.Option(
            help="union7; union22: the larger one; product5: the published one; a JSON file "
            "(docs/toy.md); or module:Class of the project's folder (docs/truth.md)."
        ),
    ] = "union7",
    into: Annotated[
        Path | None, typer.Option(help="Folder for model and SAE; by default where it is shipped.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the transformer.")] = 0,
    sae_seed: Annotated[int, typer.Option(help="Seed of the SAE.")] = 10,
) -> None:
    """Train a toy's transformer and SAE from nothing (docs/toy.md has the recipe).

    For a process of one's own it writes the study, too, where there is none of its name.
    """
    from aanet_assets.science.toy.train import RECIPES, recipe_of
    from aanet_assets.science.toy.train import train_toy as train

    # A path is the user's own, from where they are.
    path = Path(process).resolve()
    home = enter_home()
    if process.endswith(".json"):
        process = str(path.relative_to(home) if path.is_relative_to(home) else path)
    try:
        recipe = recipe_of(process)
        into = into or Path(recipe.folder)
        components = len(recipe.process.names)
        study = None if process in RECIPES else project.toy_study(process, components, into)
    except ValueError as error:
        raise stop(error) from None
    logging.basicConfig(format="%(message)s")
    logging.getLogger("aanet").setLevel(logging.INFO)
    train(into, recipe, seed=seed, sae_seed=sae_seed)
    console.print(f"written to {into}: model/, sae/ and training.json")
    if study is not None:
        file = project.write_study(study, process_path(process).stem)
        console.print(f"the study is {file}. Next: aanet run {file.stem}", soft_wrap=True)
