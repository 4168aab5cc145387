"""Checks before any work starts: model, SAE, corpus and settings must fit together."""

import json
from typing import TYPE_CHECKING

from aanet_assets.inputs import labels_path
from aanet_assets.lm.sae import parse_hook
from aanet_assets.study import Study, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def preflight(study: Study) -> None:
    """Check a study against the model and the SAE, reading their configurations only.

    What the study makes itself is checked once it is there.

    Raises:
        ValueError: with what is wrong, the value, what is allowed and what to do.
    """
    _check_model_directory(study)
    _check_revisions(study)
    _check_device(study)
    _check_sae(study)
    _check_corpus(study, _check_tokenizer(study))
    _check_files(study)


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


def _check_device(study: Study) -> None:
    if study.device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            f"study {study.name!r}: device is 'cuda' and this machine has no CUDA device; set "
            "device to 'cpu' or run on a machine with a GPU"
        )


def _check_sae(study: Study) -> None:
    if study.sae.directory is None:
        _check_release(study)
        return
    config_file = resolve(study.sae.directory) / "cfg.json"
    if study.local is not None and not (config_file.is_file() and resolve(study.model).is_dir()):
        return
    if not config_file.is_file():
        raise ValueError(
            f"study {study.name!r}: {config_file} is not there; set sae.directory to a directory "
            "written by SAELens (cfg.json and sae_weights.safetensors)"
        )
    config = json.loads(config_file.read_text(encoding="utf-8"))
    from transformers import AutoConfig

    model = AutoConfig.from_pretrained(**study.pretrained).get_text_config()
    if config["d_in"] != model.hidden_size:
        raise ValueError(
            f"study {study.name!r}: the SAE reads vectors of width {config['d_in']} and "
            f"{study.model} has width {model.hidden_size}: they do not belong together"
        )
    hook = parse_hook(config["metadata"]["hook_name"])
    if hook.layer >= model.num_hidden_layers:
        raise ValueError(
            f"study {study.name!r}: the SAE reads layer {hook.layer} and {study.model} has layers "
            f"0 to {model.num_hidden_layers - 1}"
        )
    if study.cache.seq_len > model.max_position_embeddings:
        raise ValueError(
            f"study {study.name!r}: cache.seq_len is {study.cache.seq_len} and {study.model} reads "
            f"at most {model.max_position_embeddings} tokens"
        )
    if study.n_clusters[-1] > config["d_sae"]:
        raise ValueError(
            f"study {study.name!r}: n_clusters {study.n_clusters[-1]} is more than the SAE's "
            f"{config['d_sae']} latents; ask for at most that many clusters"
        )


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
    if not resolve(study.model).is_dir() and (study.local is not None or study.truth is not None):
        return None
    from transformers import AutoConfig

    from aanet_assets.lm.corpus import load_tokenizer
    from aanet_assets.lm.tokens import opening_ids, text_encoder

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
    config = json.loads(config_file.read_text(encoding="utf-8"))
    said = (config.get("metadata") or {}).get("prepend_bos", config.get("prepend_bos"))
    return said is not False


def _check_corpus(study: Study, tokenizer: "PreTrainedTokenizerBase | None") -> None:
    """Of local files: that they can be read and hold as many documents and tokens as are asked for.

    What the study makes itself is made to measure.
    """
    if study.corpus.files is None or study.truth is not None or study.local is not None:
        return
    from aanet_assets.lm.supply import check_supply

    check_supply(study.corpus, study.cache, tokenizer, bool(sae_wants_bos(study)))


def _check_files(study: Study) -> None:
    if study.clustering.labels_file is not None:
        for n in study.n_clusters:
            path = labels_path(study.clustering.labels_file, n)
            if not path.is_file():
                raise ValueError(
                    f"study {study.name!r}: labels file {path} for n_clusters {n} is not there; "
                    "write one integer per latent (-1 for unassigned) to it, as an .npy file"
                )
