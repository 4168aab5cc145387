"""For studies that make model, corpus and SAE themselves, on this machine and without a hub."""

import dagster as dg

from aanet_assets.defs.materialise import Outcome
from aanet_assets.files import write_json
from aanet_assets.lineage import Partition
from aanet_assets.study import Study


def language_model(study: Study, partition: Partition) -> Outcome:
    """A language model out of an installed package, as a directory that transformers loads."""
    from aanet_assets.local.model import write_model

    assert study.local is not None
    files = write_model(study.local.package, study.paths.language_model)
    shown = {"dagster/row_count": 1, "package": study.local.package}
    return Outcome(files, shown)


def prose(study: Study, partition: Partition) -> Outcome:
    """English prose that installed software carries: docstrings, descriptions, documentation."""
    from aanet_assets.local.prose import write_prose

    assert study.local is not None
    path = study.paths.prose
    documents, characters = write_prose(path, study.local.characters, study.local.seed)
    return Outcome([path], {"dagster/row_count": documents, "characters": characters})


def sae(study: Study, partition: Partition) -> Outcome:
    """An SAE trained on the study's own model and corpus.

    Read `spliced` (the model's loss with the SAE's reconstruction in the residual stream) between
    `whole` (without) and `ablated` (with a constant in its place).
    """
    from aanet_assets.local.sae import write_sae

    assert study.local is not None
    folder = study.paths.sae
    quality = write_sae(study, study.local, folder)
    settings = study.local.model_dump(include={"layer", "latents", "active", "sae_tokens", "seed"})
    training = write_json(folder / "training.json", {**quality, **settings})
    files = [folder / "cfg.json", folder / "sae_weights.safetensors", training]
    shown = {"dagster/row_count": study.local.latents, **quality}
    return Outcome(files, {**shown, "training": dg.MetadataValue.json(settings)})
