"""What some studies make first: the corpus of a known process; or a model, prose and an SAE."""

import dagster as dg

from aanet_assets.storage.files import write_json
from aanet_assets.storage.partitions import Whole
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

CORPUS = File("corpus/corpus.parquet")
PROSE = File("corpus/prose.parquet")
LANGUAGE_MODEL = File("model/{name}")
SAE = File("sae/{name}")


def has_truth(study: Study) -> bool:
    """Of studies whose answer is known."""
    return study.truth is not None


def is_sampled(study: Study) -> bool:
    """Of studies whose corpus is drawn from a process."""
    return study.process is not None


def is_local(study: Study) -> bool:
    """Of studies that make model, corpus and SAE on this machine."""
    return study.local is not None


@step(
    Whole,
    group="1a_activations",
    of_activations=True,
    kinds=("parquet",),
    when=is_sampled,
    settings=("truth.process", "truth.seed", "cache.documents_per_shard", "cache.training_shards",
              "cache.heldout_shards", "cache.seq_len"),
    files=(CORPUS,),
)  # fmt: skip
def corpus(run: Run[Whole]) -> Outcome:
    """Documents drawn from a process whose hidden states are known; from here on, text like any."""
    from aanet_assets.science.toy.corpus import write_corpus
    from aanet_assets.science.toy.process_file import process_of

    name, cache, seed = run.study.sampled_from, run.study.cache, run.study.known_truth.seed
    documents, process = len(run.study.shards) * cache.documents_per_shard, process_of(name)
    path = write_corpus(run.folder(CORPUS), process, documents, cache.seq_len - 1, seed)
    shown = {"process": name, "components": ", ".join(process.names)}
    return Outcome([path], {"dagster/row_count": documents, **shown})


@corpus.checks(
    complete="There are as many documents as all shards together ask for.",
    letters="Documents have one chunk's letters, and no word that is not a letter.",
)
def _(run: Run[Whole]) -> list[Finding]:
    from aanet_assets.science.toy.process_file import process_of
    from aanet_assets.steps.checks.ground_truth import check_corpus

    cache, process = run.study.cache, process_of(run.study.sampled_from)
    documents = len(run.study.shards) * cache.documents_per_shard
    return check_corpus(run.path(CORPUS), process, documents, cache.seq_len - 1)


@step(
    Whole,
    group="0_local",
    of_activations=True,
    kinds=("huggingface",),
    when=is_local,
    settings=("local.package",),
    files=(LANGUAGE_MODEL,),
)
def language_model(run: Run[Whole]) -> Outcome:
    """A language model out of an installed package, as a directory that transformers loads."""
    from aanet_assets.science.activations.gguf_model import write_model

    package = run.study.made_locally.package
    files = write_model(package, run.folder(LANGUAGE_MODEL))
    return Outcome(files, {"dagster/row_count": 1, "package": package})


@language_model.checks(predicts="The model predicts English text far better than chance.")
def _(run: Run[Whole]) -> list[Finding]:
    from aanet_assets.steps.checks.local import check_language_model

    return check_language_model(run.study)


@step(
    Whole,
    group="0_local",
    of_activations=True,
    kinds=("parquet",),
    when=is_local,
    settings=("local.characters", "local.seed"),
    files=(PROSE,),
)
def prose(run: Run[Whole]) -> Outcome:
    """English prose that installed software carries: docstrings, descriptions, documentation."""
    from aanet_assets.science.activations.prose import write_prose

    path, local = run.path(PROSE), run.study.made_locally
    documents, characters = write_prose(path, local.characters, local.seed)
    return Outcome([path], {"dagster/row_count": documents, "characters": characters})


@prose.checks(documents="Documents have text, and no two are equal.")
def _(run: Run[Whole]) -> list[Finding]:
    from aanet_assets.steps.checks.local import check_prose

    return check_prose(run.path(PROSE))


@step(
    Whole,
    group="0_local",
    of_activations=True,
    kinds=("pytorch",),
    when=is_local,
    on_device=True,
    reads=(language_model, prose),
    settings=("local", "dtype", "cache.seq_len", "cache.prepend_bos", "cache.max_doc_tokens"),
    files=(SAE,),
)
def sae(run: Run[Whole]) -> Outcome:
    """An SAE trained on the study's own model and corpus.

    Read `spliced` (the model's loss with the SAE's reconstruction in the residual stream) between
    `whole` (without) and `ablated` (with a constant in its place).
    """
    from aanet_assets.science.activations.own_sae import write_sae

    local, folder = run.study.made_locally, run.folder(SAE)
    quality = write_sae(run.study, local, folder)
    settings = local.model_dump(include={"layer", "latents", "active", "sae_tokens", "seed"})
    training = write_json(run.path(SAE, name="training.json"), {**quality, **settings})
    files = [folder / "cfg.json", folder / "sae_weights.safetensors", training]
    shown = {"dagster/row_count": local.latents, **quality}
    return Outcome(files, {**shown, "training": dg.MetadataValue.json(settings)})


@sae.checks(reconstructs="The SAE explains half of the variance of fresh tokens, or more.")
def _(run: Run[Whole]) -> list[Finding]:
    from aanet_assets.steps.checks.local import check_sae

    return check_sae(run.folder(SAE))
