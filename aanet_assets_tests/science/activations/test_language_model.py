"""What is read of a model's lower layers against the whole model, on every family with SAEs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig

from aanet_assets.science.activations.architecture import layers_of
from aanet_assets.science.activations.language_model import ResidualReader
from aanet_assets.science.activations.sae_config import Hook, parse_hook
from aanet_assets.science.activations.size import size_of
from aanet_assets.science.activations.upper import WholeModel
from aanet_assets_tests.science.activations.families import (
    FAMILIES,
    LAYERS,
    TOKENS,
    WRAPPED,
    written,
)
from aanet_assets_tests.small import small_study


def whole_streams(model: nn.Module, tokens: Tensor) -> dict[Hook, Tensor]:
    """What each layer of a whole model is given and returns, by hooks of their own.

    The last of transformers' hidden states is normalised, and Mamba's are those after a layer.
    """
    (layers,) = (
        part
        for name, part in model.named_modules()
        if isinstance(part, nn.ModuleList)
        and len(part) == LAYERS
        and re.fullmatch(
            r"((model|transformer|backbone|decoder|gpt_neox|language_model|text_model)\.)*(h|layers)",
            name,
        )
    )
    seen: dict[Hook, Tensor] = {}

    def before(place: int) -> Callable[..., None]:
        return lambda _, inputs: seen.update({Hook(place, "pre"): inputs[0]})

    def after(place: int) -> Callable[..., None]:
        return lambda _, inputs, output: seen.update(
            {Hook(place, "post"): output if torch.is_tensor(output) else output[0]}
        )

    handles = []
    for place, layer in enumerate(layers):
        handles += [
            layer.register_forward_pre_hook(before(place)),
            layer.register_forward_hook(after(place)),
        ]
    with torch.no_grad():
        model(input_ids=tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("family", [*FAMILIES, *WRAPPED])
def test_every_layer_of_every_family_is_read_as_in_the_whole_model(
    family: str, tmp_path: Path
) -> None:
    model, directory = written(tmp_path, family)
    study = small_study(model=directory)
    expected = whole_streams(model, TOKENS)
    assert len(expected) == 2 * LAYERS
    # The layers above are gone from the one; the other has all of them, and all points.
    below = ResidualReader(study, Hook(1, "post"))(TOKENS)
    torch.testing.assert_close(below, expected[Hook(1, "post")], rtol=1e-5, atol=1e-5)
    streams = ResidualReader(study, Hook(0, "pre"), others=expected).streams(TOKENS)
    assert streams.keys() == expected.keys()
    for hook, stream in expected.items():
        torch.testing.assert_close(streams[hook], stream, rtol=1e-5, atol=1e-5)


def loaded(module: nn.Module) -> set[str]:
    """Parameters that are more than a shape."""
    return {name for name, parameter in module.named_parameters() if not parameter.is_meta}


@pytest.mark.parametrize("side", ["pre", "post"])
@pytest.mark.parametrize("layer", range(LAYERS))
def test_weights_above_the_point_are_not_loaded(layer: int, side: str, tmp_path: Path) -> None:
    model, directory = written(tmp_path, "llama")
    hook = parse_hook(f"blocks.{layer}.hook_resid_{side}")
    read = ResidualReader(small_study(model=directory), hook)
    layers = layers_of(read.body)
    assert len(layers) == LAYERS, "whoever counts them finds as many as the config says"
    assert [bool(loaded(one)) for one in layers] == [
        place < layer + (side == "post") for place in range(LAYERS)
    ]
    assert torch.equal(read(TOKENS), whole_streams(model, TOKENS)[hook])


def test_only_the_text_part_of_a_wrapper_is_loaded(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "gemma3")
    read = ResidualReader(small_study(model=directory), Hook(0, "post"))
    parameters = sum(p.numel() for p in read.body.parameters() if not p.is_meta)
    size = size_of(AutoConfig.from_pretrained(directory), Hook(0, "post"))
    # Beside embeddings and layers, the last norm.
    assert size.read == parameters
    assert size.everything > parameters + size.multiplied
    assert (size.d_model, size.heads) == (32, 4)


@pytest.mark.parametrize("how", ["shards", "bin", "bfloat16", "other names"])
def test_checkpoints_of_every_make(how: str, tmp_path: Path) -> None:
    family = "gemma3" if how == "other names" else "gemma2"
    model, directory = written(
        tmp_path, family, max_shard_size="20KB" if how == "shards" else "1GB"
    )
    weights = tmp_path / "model.safetensors"
    if how == "shards":
        # Nothing of the topmost layer is read: what stands there may be broken.
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
        assert len(set(index.values())) > 3
        for name, file in index.items():
            kept = load_file(tmp_path / file)
            if f"layers.{LAYERS - 1}." in name:
                save_file({**kept, name: torch.zeros(1)}, tmp_path / file, {"format": "pt"})
    if how == "bin":
        torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
        weights.unlink()
    if how == "other names":
        renamed = {
            key.replace("language_model.model.", "model.language_model."): value
            for key, value in load_file(weights).items()
        }
        assert renamed.keys() != load_file(weights).keys()
        save_file(renamed, weights, {"format": "pt"})
    dtype = "bfloat16" if how == "bfloat16" else "float32"
    if how == "bfloat16":
        # As transformers loads it, which leaves the angles of rotary embeddings in float32.
        model = type(model).from_pretrained(directory, dtype=torch.bfloat16)
    expected = whole_streams(model, TOKENS)[Hook(1, "post")]
    found = ResidualReader(small_study(model=directory, dtype=dtype), Hook(1, "post"))(TOKENS)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    study = small_study(model=directory)
    with pytest.raises(ValueError, match=r"lack 1 weights .* layers\.1\.mlp\.up_proj\.weight"):
        ResidualReader(study, Hook(1, "post"))
    ResidualReader(study, Hook(1, "pre"))


@pytest.mark.parametrize("family", ["gpt2", "minicpm3", "gemma3"])
def test_a_config_of_fewer_layers_than_there_are_is_refused(family: str, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    config = json.loads((tmp_path / "config.json").read_text())
    text = config.get("text_config", config)
    text["n_layer" if family == "gpt2" else "num_hidden_layers"] = LAYERS - 1
    if "layer_types" in text:
        del text["layer_types"][-1]
    (tmp_path / "config.json").write_text(json.dumps(config))
    study = small_study(model=directory)
    for load in (lambda: ResidualReader(study, Hook(0, "post")), lambda: WholeModel(study)):
        with pytest.raises(ValueError, match=r"have weights of layer 2 and .* there are 2 layers"):
            load()


def test_weights_of_other_sizes_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    study, weights = small_study(model=directory), tmp_path / "model.safetensors"
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"vocab_size": 50', '"vocab_size": 60'))
    with pytest.raises(ValueError, match=r"not those that its config\.json .*of other sizes\)"):
        ResidualReader(study, Hook(1, "post"))
    (tmp_path / "config.json").write_text(config)
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"or cannot be read \(Error while .*get the model again"):
        ResidualReader(study, Hook(1, "post"))


def test_a_token_that_the_model_does_not_have(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    read = ResidualReader(small_study(model=directory), Hook(1, "post"))
    read(torch.tensor([[3, 49]]))
    with pytest.raises(ValueError, match=r"makes token 50 of the corpus, and .* tokens 0 to 49"):
        read(torch.tensor([[3, 50]]))


def test_nothing_above_the_point_runs(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    read = ResidualReader(small_study(model=directory), Hook(1, "post"))
    norm = read.body.get_submodule("norm")
    norm.register_forward_hook(lambda *_: pytest.fail("the last norm was run"))
    read(TOKENS)


def test_a_centred_stream_has_mean_zero(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "gpt2")
    study, hook = small_study(model=directory), Hook(1, "post")
    plain = ResidualReader(study, hook)(TOKENS)
    centred = ResidualReader(study, hook, centred=True)(TOKENS)
    torch.testing.assert_close(centred, plain - plain.mean(-1, keepdim=True))
    assert plain.mean(-1).abs().max() > 1e-3


@pytest.mark.parametrize(("family", "capped"), [("gemma2", True), ("gemma3", False)])
def test_soft_capped_attention_is_not_fused(family: str, capped: bool, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    read = ResidualReader(small_study(model=directory), Hook(1, "post"))
    assert (read.body.config._attn_implementation == "eager") == capped


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_a_layer_the_model_does_not_have(family: str, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    with pytest.raises(ValueError, match=r"reads layer 3; .* has layers 0 to 2"):
        ResidualReader(small_study(model=directory), Hook(3, "post"))


@pytest.mark.parametrize("name", ["blocks.3.hook_mlp_out", "hook_embed", "blocks.x.hook_resid_pre"])
def test_hooks_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="hook_resid_post are supported"):
        parse_hook(name)
