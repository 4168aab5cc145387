"""Upper layers alone against the whole model, on every family with SAEs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from aanet_assets.science.activations.architecture import body_of, layers_of
from aanet_assets.science.activations.language_model import ResidualReader
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.activations.upper import UpperReader
from aanet_assets_tests.science.activations.families import (
    FAMILIES,
    LAYERS,
    TOKENS,
    WRAPPED,
    written,
)
from aanet_assets_tests.small import small_study

_POINTS = [Hook(0, "pre"), Hook(1, "post"), Hook(2, "pre"), Hook(2, "post")]
_EDITS = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(2))


def loaded(family: str, directory: str, like: PreTrainedModel) -> PreTrainedModel:
    """The whole model as transformers loads it, which attends as the other one does."""
    kind = AutoModelForImageTextToText if family in WRAPPED else AutoModelForCausalLM
    how = like.config.get_text_config()._attn_implementation
    return kind.from_pretrained(directory, attn_implementation=how).eval()


def with_hook(model: PreTrainedModel, hook: Hook, tokens: Tensor, new: Tensor, at: int) -> Tensor:
    """Logits of a whole model, every layer of which runs, with one vector edited by a hook."""
    layer = layers_of(body_of(model))[hook.layer]

    def changed(stream: Tensor) -> Tensor:
        stream = stream.clone()
        stream[:, at] = new
        return stream

    def before(_: nn.Module, inputs: tuple, named: dict) -> tuple[tuple, dict]:
        if inputs:
            return (changed(inputs[0]), *inputs[1:]), named
        return inputs, {**named, "hidden_states": changed(named["hidden_states"])}

    def after(_: nn.Module, inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        return changed(output) if torch.is_tensor(output) else (changed(output[0]), *output[1:])

    handle = (
        layer.register_forward_pre_hook(before, with_kwargs=True)
        if hook.side == "pre"
        else layer.register_forward_hook(after)
    )
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
    handle.remove()
    return logits


@pytest.mark.parametrize("family", [*FAMILIES, *(f for f in WRAPPED if f != "paligemma")])
def test_upper_layers_alone_predict_what_the_whole_model_does(family: str, tmp_path: Path) -> None:
    _, directory = written(tmp_path, family)
    study = small_study(model=directory)
    model = None
    for hook in _POINTS:
        upper = UpperReader(study, hook)
        model = model or loaded(family, directory, upper.whole.model)
        with torch.no_grad():
            own = model(input_ids=TOKENS, use_cache=False).logits
        residual = upper.residual(TOKENS)
        assert torch.equal(residual, ResidualReader(study, hook)(TOKENS))
        assert torch.equal(upper.logits(TOKENS, residual), own)
        assert torch.equal(upper.whole.logits(TOKENS), own)
        edited = residual.clone()
        edited[:, 5] = _EDITS[:, 0]
        expected = with_hook(model, hook, TOKENS, _EDITS[:, 0], 5)
        assert torch.equal(upper.logits(TOKENS, edited), expected)
        assert not torch.allclose(expected[:, 5], own[:, 5])
        unedited = upper.before_edits(TOKENS, residual)
        for at in (0, 5, 11):
            both = zip(TOKENS[:, : at + 1], unedited, _EDITS, strict=True)
            found = torch.stack([upper.edited(*each) for each in both])
            for i in range(3):
                whole = with_hook(model, hook, TOKENS, _EDITS[:, i], at)[:, at]
                scale = max(1.0, float(whole.abs().max()))
                # Sums over fewer rows at once are rounded in another order.
                assert (found[:, i] - whole).abs().max() <= 5e-6 * scale, (hook, at)
        assert torch.equal(upper.logits(TOKENS, residual), own), "nothing is left behind"


def test_a_model_whose_tokens_see_later_ones_predicts_nothing(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "paligemma")
    with pytest.raises(ValueError, match="cannot be read: its tokens see later ones"):
        UpperReader(small_study(model=directory), Hook(1, "post"))


def test_layers_that_use_more_than_the_stream_are_not_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, directory = written(tmp_path, "llama")
    real = UpperReader.residual

    def wrong(self: UpperReader, tokens: Tensor) -> Tensor:
        return real(self, tokens).roll(1, 1)

    monkeypatch.setattr(UpperReader, "residual", wrong)
    with pytest.raises(ValueError, match="use more of the lower ones than their residual stream"):
        UpperReader(small_study(model=directory), Hook(1, "post"))


def test_an_edit_is_one_token_through_the_upper_layers(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    upper = UpperReader(small_study(model=directory), Hook(0, "post"))
    residual = upper.residual(TOKENS)
    lower, *_, top = layers_of(upper.whole.body)
    rows: dict[str, list[tuple[int, ...]]] = {"lower": [], "top": []}
    for name, layer in (("lower", lower), ("top", top)):
        layer.get_submodule("mlp").register_forward_hook(
            lambda _, inputs, __, own=rows[name]: own.append(tuple(inputs[0].shape[:2]))
        )
    unedited = upper.before_edits(TOKENS, residual)
    for each in zip(TOKENS, unedited, _EDITS, strict=True):
        upper.edited(*each)
    assert rows == {"lower": [], "top": [(2, 12), (3, 1), (3, 1)]}


@pytest.mark.parametrize(
    ("dtype", "what_to_do"),
    [("float16", "set dtype to 'bfloat16' or 'float32'"), ("float32", "get the model again")],
)
def test_logits_that_are_not_finite_are_refused(
    dtype: str, what_to_do: str, tmp_path: Path
) -> None:
    _, directory = written(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] *= 1e7 if dtype == "float16" else float("nan")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"NaN or infinite in {dtype}: {what_to_do}"):
        UpperReader(small_study(model=directory, dtype=dtype), Hook(0, "post"))


def test_a_layer_the_model_does_not_have(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "gpt2")
    with pytest.raises(ValueError, match=r"reads layer 3; .* has layers 0 to 2"):
        UpperReader(small_study(model=directory), Hook(LAYERS, "post"))


def test_weights_of_the_head_are_asked_for(tmp_path: Path) -> None:
    _, directory = written(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 weights .* lm_head\.weight among them"):
        UpperReader(small_study(model=directory), Hook(0, "post"))
