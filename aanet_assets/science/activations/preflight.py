"""Checks before any work starts: model, SAE, corpus and settings must fit together."""

import json
import logging
from contextlib import nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from aanet_assets.science.activations.sae import check_weights
from aanet_assets.science.activations.sae_config import parse_hook, read_config
from aanet_assets.science.activations.stand_in import from_hub
from aanet_assets.storage.inputs import files_like, indexed, labels_path
from aanet_assets.study.study import Study, resolve

if TYPE_CHECKING:
    from sae_lens.saes import SAEConfig
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

log = logging.getLogger("aanet")


def preflight(study: Study) -> None:
    """Check a study against the model and the SAE, reading their configurations only.

    What the study makes itself is checked once it is there.

    Raises:
        ValueError: with what is wrong, the value, what is allowed and what to do.
        ConnectionError: the model, or a config, is on a hub that cannot be reached.
    """
    _check_packages(study)
    _check_model_directory(study)
    _check_weight_files(study)
    _check_revisions(study)
    _check_device(study)
    if study.local is None or resolve(study.model).is_dir():
        model = _check_model(study)
        _check_sae(study, model)
        _check_corpus(study, _check_tokenizer(study))
    _check_files(study)
    _check_process(study)
    _check_targets(study)


def _check_packages(study: Study) -> None:
    """Whether the packages are there that the study's clustering needs beside the product's."""
    if study.clustering.method == "leiden" and find_spec("leidenalg") is None:
        raise ValueError(
            "clustering.method leiden needs the packages igraph and leidenalg: "
            'pip install "aanet-assets[leiden]"'
        )


def _check_model_directory(study: Study) -> None:
    looks_like_path = study.model.startswith((".", "/")) or study.model.count("/") > 1
    if not looks_like_path or study.local is not None or resolve(study.model).is_dir():
        return
    raise ValueError(
        f"study {study.name!r}: model directory {resolve(study.model)} is not there; set model to "
        "a directory with a Hugging Face causal language model, or to a name like google/gemma-2-9b"
    )


def _check_revisions(study: Study) -> None:
    corpus, sae = study.corpus, study.sae
    given = {
        "revision": (study.revision, study.model),
        "corpus.revision": (corpus.revision, corpus.dataset or corpus.files),
        "sae.revision": (sae.revision, sae.directory),
    }
    for name, (revision, place) in given.items():
        is_here = place == corpus.files or place == sae.directory
        if revision is None or place is None or not (is_here or resolve(place).is_dir()):
            continue
        raise ValueError(
            f"study {study.name!r}: {name} is {revision!r}, and {place} is on this machine, where "
            "there is one state only and nothing to pin: leave it out, or name a thing on the hub"
        )


def _check_weight_files(study: Study) -> None:
    """Refuse a model folder with two sets of weights, of which loading would take one, unasked."""
    folder = resolve(study.model)
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if not ((folder / name).is_file() and index.is_file()):
            continue
        if name not in (parts := indexed(index)):
            raise ValueError(
                f"study {study.name!r}: the model folder {folder} has {name}, which would be "
                f"loaded, and {index.name}, which names others as the model ({len(parts)} in all): "
                "remove those of the two that are not the model's"
            )


def _check_device(study: Study) -> None:
    if study.device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"study {study.name!r}: device is 'cuda' and this machine has no CUDA device; set "
            "device to 'cpu' or run on a machine with a GPU"
        )


def _check_model(study: Study) -> "PreTrainedConfig":
    """The config of the language model, which can be read."""
    from aanet_assets.science.activations.architecture import load_config, skeleton

    with nullcontext() if resolve(study.model).is_dir() else from_hub(f"the model {study.model}"):
        config = load_config(study)
    try:
        skeleton(config)
    except ValueError as error:
        raise ValueError(f"study {study.name!r}: {error}") from None
    model = config.get_text_config()
    # Models without positions of their own (BLOOM, Mamba) state no most.
    longest = getattr(model, "max_position_embeddings", None)
    if longest is not None and study.cache.seq_len > longest:
        raise ValueError(
            f"study {study.name!r}: cache.seq_len is {study.cache.seq_len} and {study.model} reads "
            f"at most {longest} tokens"
        )
    return model


def _check_sae(study: Study, model: "PreTrainedConfig") -> None:
    folder = study.sae.directory and resolve(study.sae.directory)
    if study.local is not None and not (folder and (folder / "cfg.json").is_file()):
        return
    if folder is None:
        _check_release(study)
        with from_hub(f"the config of the SAE {study.sae.name}"):
            config = read_config(study.sae)
    else:
        config = read_config(study.sae)
    if config.d_in != model.hidden_size:
        raise ValueError(
            f"study {study.name!r}: the SAE reads vectors of width {config.d_in} and "
            f"{study.model} has width {model.hidden_size}: they do not belong together"
        )
    hook = parse_hook(str(config.metadata.hook_name))
    if hook.layer >= model.num_hidden_layers:
        raise ValueError(
            f"study {study.name!r}: the SAE reads layer {hook.layer} and {study.model} has layers "
            f"0 to {model.num_hidden_layers - 1}"
        )
    # Activations alone have no clusters.
    if (most := max(study.n_clusters, default=0)) > config.d_sae:
        raise ValueError(
            f"study {study.name!r}: n_clusters {most} is more than the SAE's "
            f"{config.d_sae} latents; ask for at most that many clusters"
        )
    if folder is not None:
        check_weights(study.sae, config)
    for doubt in doubts(study, config):
        log.warning(f"study {study.name!r}: {doubt}")


def doubts(study: Study, config: "SAEConfig") -> list[str]:
    """What the SAE says of its training that is not so in the study, and may matter."""
    about, found = config.metadata, []
    length = study.cache.seq_len
    if isinstance(about.context_size, int) and about.context_size < length:
        found.append(
            f"the SAE was trained on contexts of {about.context_size} tokens and cache.seq_len is "
            f"{length}: it has never seen later positions; lower cache.seq_len to "
            f"{about.context_size}"
        )
    positions: Any = about.seqpos_slice
    if positions and any(end is not None for end in positions):
        found.append(
            f"the SAE was trained on the positions of the slice {list(positions)} alone, and here "
            "it is used at all of them"
        )
    own = _name_of_model(study)
    if about.model_name and own and _plain_name(about.model_name) != _plain_name(own):
        found.append(
            f"the SAE was trained on {about.model_name!r} and the model is {own!r}: make sure that "
            "these are one model"
        )
    elif about.model_name and not own and _plain_name(about.model_name) != _plain_name(study.model):
        found.append(
            f"the SAE was trained on {about.model_name!r}, and which model {study.model} is cannot "
            "be known (its config.json has no _name_or_path): make sure that these are one model"
        )
    kept = about.model_from_pretrained_kwargs or {}
    for name in ("revision", "checkpoint_index", "checkpoint_value"):
        if kept.get(name) is not None:
            found.append(
                f"the SAE was trained on {about.model_name!r} at {name} {kept[name]!r}: make sure "
                "that the model is the same"
            )
    return found


def _name_of_model(study: Study) -> str | None:
    """The model's name: as the study gives it, or as a directory's config says; None if nobody."""
    folder = resolve(study.model)
    if not folder.is_dir():
        return study.model
    said = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_name_or_path")
    return said or None


def _plain_name(model: str) -> str:
    """A model's name without owner and case, by TransformerLens's list of other names."""
    from transformer_lens.supported_models import MODEL_ALIASES

    plain = model.rstrip("/").split("/")[-1].lower()
    for official, others in MODEL_ALIASES.items():
        known = official.split("/")[-1].lower()
        if plain in (known, *(other.lower() for other in others)):
            return known
    return plain


def _check_release(study: Study) -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    releases = get_pretrained_saes_directory()
    release, sae_id = study.sae.release, study.sae.id
    if release not in releases:
        raise ValueError(
            f"study {study.name!r}: SAELens knows no release {release!r}; see the list in the "
            "SAELens documentation, or give sae.directory"
        )
    if sae_id not in releases[release].saes_map:
        raise ValueError(
            f"study {study.name!r}: release {release!r} has no SAE {sae_id!r}; it has, for "
            f"example, {', '.join(list(releases[release].saes_map)[:3])}"
        )


def _check_tokenizer(study: Study) -> "PreTrainedTokenizerBase | None":
    """The model's tokenizer, able to open documents as they must be; None if it is not here yet."""
    if not resolve(study.model).is_dir() and study.makes_corpus:
        return None
    from transformers import AutoConfig

    from aanet_assets.science.activations.corpus import load_tokenizer
    from aanet_assets.science.activations.tokens import opening_ids, text_encoder

    try:
        tokenizer = load_tokenizer(study, local_files_only=True)
    except OSError:
        return None
    wants = sae_wants_bos(study)
    if wants is None and study.cache.prepend_bos == "auto":
        return tokenizer
    try:
        text_encoder(tokenizer)
        opening = opening_ids(tokenizer, study.cache.prepend_bos, bool(wants))
    except ValueError as error:
        raise ValueError(f"study {study.name!r}: {error}") from None
    words = AutoConfig.from_pretrained(**study.pretrained).get_text_config().vocab_size
    if opening and opening[0] >= words:
        raise ValueError(
            f"study {study.name!r}: the token before each document is number {opening[0]} and "
            f"{study.model} has tokens 0 to {words - 1}: set cache.prepend_bos to 'no' or to a "
            "token that the model has"
        )
    return tokenizer


def sae_wants_bos(study: Study) -> bool | None:
    """Whether the study's SAE says that BOS opens documents; None while it is not here.

    SAELens takes it for granted where nothing is said.
    """
    config_file = study.sae.directory and resolve(study.sae.directory) / "cfg.json"
    if not config_file or not config_file.is_file():
        return None
    return read_config(study.sae).metadata.prepend_bos is not False


def _check_corpus(study: Study, tokenizer: "PreTrainedTokenizerBase | None") -> None:
    """Of local files: that they can be read and hold as many documents and tokens as are asked for.

    Of a dataset's folder only the first document is looked at, whose files take turns. What the
    study makes itself is made to measure.
    """
    if study.makes_corpus:
        return
    if study.corpus.files is not None:
        from aanet_assets.science.activations.supply import check_supply

        check_supply(study.corpus, study.cache, tokenizer, bool(sae_wants_bos(study)))
    elif study.corpus.dataset is not None and resolve(study.corpus.dataset).is_dir():
        from aanet_assets.science.activations.corpus import documents
        from aanet_assets.science.activations.dataset import files_passed_over

        next(documents(study.corpus, 0, 1))
        if others := files_passed_over(study.corpus):
            log.warning(
                f"study {study.name!r}: the library datasets passes over {len(others)} of the "
                f"files in the dataset folder {study.corpus.dataset}, {others[0]} among them: it "
                "reads files of one kind, the most frequent; if they belong to the corpus, bring "
                "all into one form"
            )


def _check_process(study: Study) -> None:
    """That the process that the corpus is drawn from, or is compared with, can be used."""
    if study.process is None:
        return
    from aanet_assets.science.toy.process_file import process_of

    try:
        process_of(study.process)
    except ValueError as error:
        raise ValueError(f"study {study.name!r}: {error}") from None


def _check_targets(study: Study) -> None:
    """That the file of what is known of the tokens can be used, where the corpus is there."""
    if study.truth is None or study.truth.targets is None:
        return
    from aanet_assets.science.activations.targets import check_targets

    if not study.makes_corpus or files_like(study.corpus.files or ""):
        try:
            check_targets(resolve(study.truth.targets), study.corpus)
        except ValueError as error:
            raise ValueError(f"study {study.name!r}: {error}") from None


def _check_files(study: Study) -> None:
    if study.clustering.labels_file is not None:
        for n in study.n_clusters:
            path = labels_path(study.clustering.labels_file, n)
            if not path.is_file():
                raise ValueError(
                    f"study {study.name!r}: labels file {path} for n_clusters {n} is not there; "
                    "write one integer per latent (-1 for unassigned) to it, as an .npy file"
                )
