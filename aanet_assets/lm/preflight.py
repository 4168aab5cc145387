"""Checks before any work starts: model, SAE, corpus and settings must fit together."""

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

from aanet_assets.inputs import labels_path
from aanet_assets.lm.network import from_hub
from aanet_assets.lm.sae import parse_hook
from aanet_assets.study import Study, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def preflight(study: Study) -> None:
    """Check a study against the model and the SAE, reading their configurations only.

    What the study makes itself is checked once it is there.

    Raises:
        ValueError: with what is wrong, the value, what is allowed and what to do.
        ConnectionError: the model is on a hub that cannot be reached.
    """
    _check_model_directory(study)
    _check_device(study)
    if study.local is None or resolve(study.model).is_dir():
        model = _check_model(study)
        _check_sae(study, model)
    _check_files(study)


def _check_model_directory(study: Study) -> None:
    looks_like_path = study.model.startswith((".", "/")) or study.model.count("/") > 1
    if not looks_like_path or study.local is not None or resolve(study.model).is_dir():
        return
    raise ValueError(
        f"study {study.name!r}: model directory {resolve(study.model)} is not there; set model to "
        "a directory with a Hugging Face causal language model, or to a name like google/gemma-2-9b"
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
    from aanet_assets.lm.architecture import load_config, skeleton

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
    if study.sae.directory is None:
        _check_release(study)
        return
    config_file = resolve(study.sae.directory) / "cfg.json"
    if study.local is not None and not config_file.is_file():
        return
    if not config_file.is_file():
        raise ValueError(
            f"study {study.name!r}: {config_file} is not there; set sae.directory to a directory "
            "written by SAELens (cfg.json and sae_weights.safetensors)"
        )
    config = json.loads(config_file.read_text(encoding="utf-8"))
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


def _check_files(study: Study) -> None:
    if study.corpus.files is not None and study.truth is None and study.local is None:
        from aanet_assets.lm.corpus import corpus_files

        corpus_files(study.corpus)
    if study.clustering.labels_file is not None:
        for n in study.n_clusters:
            path = labels_path(study.clustering.labels_file, n)
            if not path.is_file():
                raise ValueError(
                    f"study {study.name!r}: labels file {path} for n_clusters {n} is not there; "
                    "write one integer per latent (-1 for unassigned) to it, as an .npy file"
                )
