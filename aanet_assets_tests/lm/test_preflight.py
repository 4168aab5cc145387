"""Studies that cannot work are refused before any work, with one clear message."""

import json
from pathlib import Path

import pytest

from aanet_assets.lm.preflight import preflight
from aanet_assets.settings import SaeSettings
from aanet_assets_tests.small import small_study


def test_the_small_study_is_fine() -> None:
    preflight(small_study())


def test_what_a_study_makes_itself_need_not_be_there() -> None:
    for changes in ({}, {"model": "data/nowhere/model"}, {"sae": {"directory": "data/nowhere"}}):
        files = {"files": "data/nowhere/*.parquet"}
        preflight(small_study(truth=None, selection={}, local={}, corpus=files, **changes))


def sae_with(tmp_path: Path, home: Path, **changes) -> SaeSettings:
    config = json.loads((home / "data/inputs/toy/sae/cfg.json").read_text())
    config["metadata"].update(changes.pop("metadata", {}))
    (tmp_path / "cfg.json").write_text(json.dumps(config | changes))
    return SaeSettings(directory=str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "data/inputs/nowhere/model"}, r"model directory .*nowhere/model is not there"),
        ({"sae": {"directory": "data/inputs/nowhere"}}, r"nowhere/cfg\.json is not there"),
        ({"sae": {"release": "no-such", "id": "x"}}, r"no release 'no-such'"),
        (
            {"sae": {"release": "gemma-scope-9b-pt-res", "id": "layer_99"}},
            r"has no SAE 'layer_99'; it has, for example, ",
        ),
        ({"n_clusters": (6, 33)}, r"n_clusters 33 is more than the SAE's 32 latents"),
        ({"cache": {"seq_len": 18}}, r"seq_len is 18 and .* reads at most 17 tokens"),
        (
            {"clustering": {"method": "labels", "labels_file": "data/nowhere_{n}.npy"}},
            r"nowhere_6\.npy for n_clusters 6 is not there",
        ),
        ({"truth": None, "corpus": {"files": "data/none/*.jsonl"}}, r"match 0 files"),
        ({"device": "cuda"}, r"device is 'cuda' and this machine has no CUDA device"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict, message: str) -> None:
    if changes.get("device") == "cuda":
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA device")
    fields = {"selection": {}} | changes
    with pytest.raises(ValueError, match=message):
        preflight(small_study(**fields))


def test_an_sae_of_another_width(tmp_path: Path, home: Path) -> None:
    sae = sae_with(tmp_path, home, d_in=65)
    with pytest.raises(ValueError, match=r"width 65 and .* has width 64: they do not belong"):
        preflight(small_study(sae=sae))


def test_an_sae_of_a_layer_that_is_not_there(tmp_path: Path, home: Path) -> None:
    sae = sae_with(tmp_path, home, metadata={"hook_name": "blocks.3.hook_resid_post"})
    with pytest.raises(ValueError, match=r"reads layer 3 and .* layers 0 to 2"):
        preflight(small_study(sae=sae))


def model_config(folder: Path, content: dict) -> str:
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "t5"}, r"T5Config \(t5\), which .*: it has an encoder and a decoder; supp"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, r"BertForMaskedLM \(bert\)"),
        ({"model_type": "modernbert"}, r"it is no causal language model; supported are causal"),
        ({"model_type": "clip"}, r"it is no causal language model"),
        (
            {"model_type": "gemma3n_text"},
            r"shape \(4, 1, 3, 2048\) in place of one vector per token",
        ),
        ({"model_type": "deepseek_v4"}, r"shape \(1, 3, 4, \d+\) in place of one vector per token"),
        ({"model_type": "dory"}, r"layers run more than once \(.*n_recurrent_loops"),
        ({"model_type": "xlm"}, r"its language model has no single list of layers"),
        ({"model_type": "nobody_knows"}, r"transformers [\d.]+ does not know its architecture"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Own"}},
            r"code that comes with a model is never run",
        ),
        ({"hidden_size": 8}, r"does not know its architecture"),
    ],
)
def test_a_model_that_cannot_be_read(content: dict, message: str, tmp_path: Path) -> None:
    study = small_study(model=model_config(tmp_path, content))
    with pytest.raises(ValueError, match=message) as caught:
        preflight(study)
    assert "\n" not in str(caught.value)


def test_a_text_model_inside_another(tmp_path: Path, home: Path) -> None:
    text = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16,
        "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 50}  # fmt: skip
    for limit, said in ((32, r"reads layer 5 .* layers 0 to 2"), (16, r"is 17 and .* at most 16")):
        text["max_position_embeddings"] = limit
        model = model_config(tmp_path, {"model_type": "gemma3", "text_config": text})
        sae = sae_with(tmp_path, home, metadata={"hook_name": "blocks.5.hook_resid_post"})
        with pytest.raises(ValueError, match=said):
            preflight(small_study(model=model, sae=sae))
    text["max_position_embeddings"] = 32
    model = model_config(tmp_path, {"model_type": "gemma3", "text_config": text})
    preflight(small_study(model=model, sae=sae_with(tmp_path, home)))


@pytest.mark.parametrize("family", ["bloom", "mamba"])
def test_a_model_that_states_no_longest_sequence(family: str, tmp_path: Path, home: Path) -> None:
    config = {"model_type": family, "hidden_size": 64, "num_hidden_layers": 3, "n_layer": 3}
    preflight(small_study(model=model_config(tmp_path, config)))
