"""What an SAE says of itself is read as SAELens reads it: honoured, or refused in one sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders
from safetensors.torch import load_file, save_file

from aanet_assets.cli.planning import make_plan
from aanet_assets.science.activations.encode import codes_of
from aanet_assets.science.activations.preflight import doubts, preflight
from aanet_assets.science.activations.sae import decoder_rows, hook_of, load_sae
from aanet_assets.science.activations.sae_config import Hook, parse_hook, read_config
from aanet_assets.study.settings import SaeSettings
from aanet_assets_tests.small import small_study

WEIGHTS = "sae_weights.safetensors"
GEMMA = SaeSettings(release="gemma-scope-9b-pt-res", id="layer_20/width_16k/average_l0_68")


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    """The toy's SAE, to change."""
    return shutil.copytree(home / "data/inputs/toy/sae", tmp_path / "sae")


def rewrite(folder: Path, **changes: Any) -> SaeSettings:
    """Change entries of its config, those of `metadata` one by one; `...` leaves an entry out."""
    config = json.loads((folder / "cfg.json").read_text())
    for part, edits in ((config, changes), (config["metadata"], changes.pop("metadata", {}))):
        part.update(edits)
        for name in [name for name, value in part.items() if value is ...]:
            del part[name]
    (folder / "cfg.json").write_text(json.dumps(config))
    return SaeSettings(directory=str(folder))


def flatten(folder: Path, **changes: Any) -> SaeSettings:
    """The config as SAELens 5 wrote it."""
    config = json.loads((folder / "cfg.json").read_text())
    about = config.pop("metadata")
    flat = config | {
        "hook_name": about["hook_name"], "hook_layer": 2, "hook_head_index": None,
        "model_name": about["model_name"], "prepend_bos": True, "context_size": 17,
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": config.pop("k")},
        "finetuning_scaling_factor": False, "sae_lens_training_version": "5.10.3",
    }  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(flat | changes))
    return SaeSettings(directory=str(folder))


def test_a_flat_config_is_the_same_sae(folder: Path) -> None:
    before = load_sae(SaeSettings(directory=str(folder)))
    settings = flatten(folder)
    study = small_study(sae=settings)
    preflight(study)
    plan = make_plan(study)
    assert plan.latents[:2] == ("blocks.2.hook_resid_post", 32)
    assert plan.latents.l0 == 3
    after = load_sae(settings)
    assert hook_of(after) == Hook(2, "post")
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(after(x), before(x))


def test_a_hook_of_saelens_2_is_read(folder: Path) -> None:
    settings = flatten(folder, hook_name=None, hook_point="blocks.2.hook_resid_pre")
    assert read_config(settings).metadata.hook_name == "blocks.2.hook_resid_pre"


def test_a_release_is_read_without_its_weights() -> None:
    config = read_config(GEMMA)
    assert (config.d_in, config.d_sae) == (3584, 16_384)
    assert parse_hook(config.metadata["hook_name"]) == Hook(20, "post")


def test_a_release_whose_scale_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pretrained_sae_loaders.load_sae_config_from_huggingface
    monkeypatch.setattr(
        pretrained_sae_loaders,
        "load_sae_config_from_huggingface",
        lambda *names: real(*names) | {"normalize_activations": "expected_average_only_in"},
    )
    with pytest.raises(ValueError, match="SAELens has no scale for it: put the activation_scaler"):
        read_config(GEMMA)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"metadata": {"hook_name": ...}},
            r"does not say what it reads \(hook_name is None\): add",
        ),
        ({"metadata": {"hook_name": None}}, r"does not say what it reads \(hook_name is None\)"),
        ({"metadata": {"hook_name": "blocks.2.hook_mlp_out"}}, "reads 'blocks.2.hook_mlp_out'"),
        ({"metadata": {"hook_name_out": "blocks.3.hook_mlp_out"}}, "is a transcoder: it reads"),
        ({"metadata": {"hook_head_index": 3}}, "reads head 3 only"),
        ({"metadata": {"hook_layer": 3}}, r"two layers \(hook_name is .* and hook_layer 3\)"),
        ({"metadata": None}, "is none that SAELens .* reads"),
        ({"reshape_activations": "hook_z"}, "reshapes what it reads"),
        ({"architecture": "transcoder", "apply_b_dec_to_input": False}, "is a transcoder"),
        ({"architecture": "temporal"}, "architecture 'temporal', which reconstructs from earlier"),
        ({"architecture": "abstopk"}, "architecture 'abstopk', which has codes below zero"),
        ({"architecture": "crosscoder"}, "'crosscoder', which SAELens .* does not know; it knows"),
        ({"architecture": "batchtopk"}, "only trains: write it with save_inference_model"),
        ({"architecture": ["topk"]}, "does not know"),
        ({"d_in": ...}, "d_in.*complete its cfg.json"),
        ({"d_sae": None}, r"says d_sae = None; it must be a whole number above 0: put d_sae"),
        ({"k": ...}, r"says k = None; it must be a whole number above 0"),
        ({"k": True}, r"says k = True; it must be a whole number above 0"),
        ({"k": 33}, r"says k = 33 and d_sae = 32; no more latents can be kept than there are"),
        ({"architecture": "standard"}, r"says k = 3 and not that its architecture is topk"),
        ({"apply_b_dec_to_input": None}, r"says apply_b_dec_to_input = None; it must be true or"),
        ({"apply_b_dec_to_input": "false"}, r"says apply_b_dec_to_input = 'false'; it must be"),
        ({"metadata": {"prepend_bos": "false"}}, r"says prepend_bos = 'false'; it must be true or"),
        ({"normalize_activations": "covariance_whitening"}, "'covariance_whitening', which is not"),
        ({"normalize_activations": "batch"}, "is none that SAELens .* reads"),
        (
            {"normalize_activations": "expected_average_only_in"},
            r"activation_scaler\.json does not give the scale: put .* or write the SAE with",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(folder: Path, changes: dict, message: str) -> None:
    if changes.get("metadata", ...) is None:
        config = json.loads((folder / "cfg.json").read_text()) | changes
        (folder / "cfg.json").write_text(json.dumps(config))
        settings = SaeSettings(directory=str(folder))
    else:
        settings = rewrite(folder, **changes)
    for check in (read_config, load_sae):
        with pytest.raises(ValueError, match=message) as refused:
            check(settings)
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=message):
        preflight(small_study(sae=settings))
    with pytest.raises(ValueError, match=message):
        make_plan(small_study(sae=settings))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hook_name": None}, r"does not say what it reads"),
        ({"hook_layer": 1}, r"names two layers \(hook_name is .* and hook_layer 1\)"),
        ({"activation_fn_str": "tanh-relu", "architecture": "standard"}, "function 'tanh-relu'"),
        ({"activation_fn_kwargs": {}}, r"\(KeyError: 'k'\): complete its cfg\.json"),
        ({"activation_fn_kwargs": None}, "is none that SAELens .* reads"),
        (
            {"architecture": "standard", "activation_fn_kwargs": {}},
            "function 'topk', which SAELens",
        ),
        ({"normalize_activations": True}, "does not give the scale"),
        (
            {"architecture": "standard", "activation_fn_str": None},
            r"says k = 3 and not that its architecture is topk",
        ),
        (
            {
                "architecture": "standard",
                "activation_fn_str": None,
                "activation_fn_kwargs": {},
                "k": 5,
            },
            r"says k = 5 and not that its architecture is topk",
        ),
        ({"sae_lens_version": "five"}, "is none that SAELens .* reads"),
    ],
)
def test_flat_configs_that_cannot_be_used(folder: Path, changes: dict, message: str) -> None:
    settings = flatten(folder, **changes)
    with pytest.raises(ValueError, match=message):
        preflight(small_study(sae=settings))


@pytest.mark.parametrize(
    ("text", "message"), [("{", r"cfg\.json is not JSON \("), ("[1]", "holds a list; it must be")]
)
def test_a_config_that_is_none(folder: Path, text: str, message: str) -> None:
    (folder / "cfg.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        preflight(small_study(sae=SaeSettings(directory=str(folder))))


def test_weights_that_do_not_go_with_the_config(folder: Path) -> None:
    settings = SaeSettings(directory=str(folder))
    weights = load_file(folder / WEIGHTS)
    save_file({name: part[..., :30].clone() for name, part in weights.items()}, folder / WEIGHTS)
    with pytest.raises(
        ValueError, match=r"W_dec has the shape \(32, 30\) and must have \(32, 64\)"
    ):
        preflight(small_study(sae=settings))
    with pytest.raises(ValueError, match="are not those that its config describes") as refused:
        load_sae(settings)
    assert "\n" not in str(refused.value)
    save_file(
        {name: (100 * part).to(torch.int8) for name, part in weights.items()}, folder / WEIGHTS
    )
    with pytest.raises(
        ValueError, match=r"has a .* of the type I8, which says nothing of the scale"
    ):
        preflight(small_study(sae=settings))
    other_names = {name.replace("W_enc", "encoder"): part for name, part in weights.items()}
    save_file(other_names, folder / WEIGHTS)
    with pytest.raises(
        ValueError, match=r"W_enc of the shape \(64, 32\) is missing; encoder is non"
    ):
        preflight(small_study(sae=settings))
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    for check in (load_sae, lambda _: preflight(small_study(sae=settings))):
        with pytest.raises(ValueError, match="copy"):
            check(settings)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"sae_weights\.safetensors is not there"):
        preflight(small_study(sae=settings))


def test_a_finetuned_scale_that_saelens_no_longer_reads(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file(weights | {"scaling_factor": torch.full((32,), 1.5)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="are not those that its config describes"):
        load_sae(flatten(folder, finetuning_scaling_factor=True))


def test_a_scale_beside_the_weights_is_folded_into_them(folder: Path) -> None:
    scale = 0.4383
    plain = SAE.load_from_disk(folder)
    settings = rewrite(folder, normalize_activations="expected_average_only_in")
    (folder / "activation_scaler.json").write_text(
        json.dumps({"scaling_factor": scale, "has_whitening": False})
    )
    preflight(small_study(sae=settings))
    sae = load_sae(settings)
    x = 3 * torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # What the SAE saw in training was scaled.
        torch.testing.assert_close(sae(x), plain(x * scale) / scale, rtol=1e-4, atol=1e-4)
        norms = plain.W_dec.norm(dim=1)
        assert float(norms.min()) == pytest.approx(1, abs=1e-4), "the toy's rows have length one"
        torch.testing.assert_close(
            codes_of(sae, x), plain.encode(x * scale) / scale, rtol=1e-4, atol=1e-4
        )
    for nothing in (None, True):
        (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": nothing}))
        with pytest.raises(ValueError, match="does not give the scale"):
            load_sae(settings)


@pytest.mark.parametrize("normalised", ["layer_norm", "constant_norm_rescale"])
def test_codes_of_an_sae_that_normalises_each_token(folder: Path, normalised: str) -> None:
    own = SAE.load_from_disk(folder)
    sae = load_sae(rewrite(folder, normalize_activations=normalised))
    x = torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(1))
    x = x * torch.logspace(-1, 2, 40)[:, None] + 0.3
    if normalised == "layer_norm":
        centre, length = x.mean(-1, keepdim=True), x.std(-1, keepdim=True) + 1e-5
        back = x.std(-1, keepdim=True)
    else:
        centre, length = torch.zeros(()), x.norm(dim=-1, keepdim=True) / 8
        back = length
    with torch.no_grad():
        codes, normal = codes_of(sae, x), own.encode((x - centre) / length)
        assert torch.equal(codes > 0, normal > 0), "as sparse as the SAE's own"
        rebuilt = codes @ torch.from_numpy(decoder_rows(sae)) + own.b_dec * back + centre
        torch.testing.assert_close(rebuilt, sae(x), rtol=1e-4, atol=1e-4)
        expected = own.decode(normal) * back + centre
        torch.testing.assert_close(rebuilt, expected, rtol=1e-4, atol=1e-3)


def test_rows_of_zeros_stay_and_spoil_nothing(folder: Path) -> None:
    settings = SaeSettings(directory=str(folder))
    weights = load_file(folder / WEIGHTS)
    weights["W_dec"][[4, 9]] = 0
    weights["W_dec"][11] = 1e-30
    save_file(weights, folder / WEIGHTS)
    sae = load_sae(settings)
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert sae(x).isfinite().all()
        assert not sae.encode(x)[:, [4, 9, 11]].gt(1e-6).any()
    assert np.flatnonzero(~decoder_rows(sae).any(axis=1)).tolist() == [4, 9, 11]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(folder: Path, bad: float) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["W_dec"][[4, 9], 0] = bad
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"2 entries of W_dec .* NaN or infinite \(rows 4, 9\)"):
        load_sae(SaeSettings(directory=str(folder)))


@pytest.mark.parametrize(
    ("about", "model", "found"),
    [
        ({}, "data/inputs/toy/model", []),
        ({"context_size": 16}, "data/inputs/toy/model", ["contexts of 16 tokens"]),
        ({"seqpos_slice": [None]}, "data/inputs/toy/model", []),
        ({"seqpos_slice": [5, None]}, "data/inputs/toy/model", [r"slice [5, None] alone"]),
        ({"model_name": "gpt2-small"}, "data/inputs/toy/model", ["toy/model is cannot be known"]),
        ({"model_name": "elsewhere/model"}, "data/inputs/toy/model", []),
        ({"model_name": "gpt2-small"}, "openai-community/gpt2", []),
        ({"model_name": "gemma-2-9b"}, "google/gemma-2-9b", []),
        ({"model_name": "pythia-70m-deduped"}, "EleutherAI/pythia-70m-deduped", []),
        ({"model_name": "gemma-2-9b-it"}, "google/gemma-2-9b", ["trained on 'gemma-2-9b-it'"]),
        (
            {"model_name": "gpt2", "model_from_pretrained_kwargs": {"checkpoint_index": 3}},
            "gpt2",
            ["at checkpoint_index 3"],
        ),
    ],
)
def test_doubts_are_said(folder: Path, about: dict, model: str, found: list[str]) -> None:
    study = small_study(sae=rewrite(folder, metadata=about), model=model)
    said = doubts(study, read_config(study.sae))
    assert len(said) == len(found)
    for doubt, part in zip(said, found, strict=True):
        assert part in doubt


def test_a_directory_is_named_by_its_config(folder: Path, home: Path, tmp_path: Path) -> None:
    model = shutil.copytree(home / "data/inputs/toy/model", tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"_name_or_path": "google/gemma-2-2b"}))
    study = small_study(sae=rewrite(folder, metadata={"model_name": "gemma-2-9b"}),
                        model=str(model))  # fmt: skip
    (said,) = doubts(study, read_config(study.sae))
    assert "trained on 'gemma-2-9b' and the model is 'google/gemma-2-2b'" in said


def test_preflight_warns_of_doubts(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sae = rewrite(folder, metadata={"context_size": 8})
    preflight(small_study(sae=sae))
    assert "contexts of 8 tokens and cache.seq_len is 17" in caplog.text


def test_hooks_are_written_as_they_are_read() -> None:
    assert str(Hook(3, "pre")) == "blocks.3.hook_resid_pre"
    assert parse_hook(str(Hook(3, "post"))) == Hook(3, "post")
