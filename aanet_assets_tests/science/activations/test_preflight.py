"""Studies that cannot work are refused before any work, with one clear message."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from aanet_assets.cli import planning
from aanet_assets.cli.planning import make_plan, rows_of
from aanet_assets.science.activations import supply
from aanet_assets.science.activations.preflight import preflight
from aanet_assets.study.settings import CorpusSettings, SaeSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study


def test_the_small_study_is_fine() -> None:
    preflight(small_study())


def test_what_a_study_makes_itself_need_not_be_there() -> None:
    for changes in ({}, {"model": "data/nowhere/model"}, {"sae": {"directory": "data/nowhere"}}):
        files = {"files": "data/nowhere/*.parquet"}
        made = {"package": "none", "layer": 1, "latents": 8}
        preflight(small_study(truth=None, selection={}, local=made, corpus=files, **changes))


def sae_with(tmp_path: Path, home: Path, **changes) -> SaeSettings:
    config = json.loads((home / "data/inputs/toy/sae/cfg.json").read_text())
    config["metadata"].update(changes.pop("metadata", {}))
    (tmp_path / "cfg.json").write_text(json.dumps(config | changes))
    shutil.copy(home / "data/inputs/toy/sae/sae_weights.safetensors", tmp_path)
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
        ({"truth": {"process": "nowhere:Mine"}}, r"write the class Mine into .*nowhere\.py"),
        ({"truth": {"process": "nowhere.json"}}, r"the process .*nowhere\.json is not there: give"),
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


def test_leiden_without_its_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "leidenalg", None)
    with pytest.raises(ValueError, match=r'pip install "aanet-assets\[leiden\]"'):
        preflight(small_study(clustering={"method": "leiden"}))


def study_of(tmp_path: Path, texts: list[str], **cache) -> Study:
    """Two shards of ten documents, of which 20 chunks of four tokens are wanted."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    settings = {"seq_len": 4, "documents_per_shard": 10, "tokens_per_shard": 80}
    return small_study(
        truth=None,
        selection={},
        corpus={"files": str(path)},
        cache=settings | {"training_shards": 1, "heldout_shards": 1} | cache,
    )


LONG = "a1 a2 a3 b1 b2 b3 c1"


def test_a_corpus_that_suffices(tmp_path: Path) -> None:
    preflight(study_of(tmp_path, [LONG] * 20))
    # More documents than are read change nothing, whatever they are.
    preflight(study_of(tmp_path, [LONG] * 20 + ["", "x"]))


def test_fewer_documents_than_shards_begin_with(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"has 10 documents, and the last of 2 shards .* begins at document 10: lower "
        r"cache\.documents_per_shard to 5 or ask for fewer shards",
    ):
        preflight(study_of(tmp_path, [LONG] * 10))
    with pytest.raises(ValueError, match=r"corpus\.jsonl has no documents"):
        preflight(study_of(tmp_path, []))


@pytest.fixture
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans without a measurement of this machine's speed."""
    monkeypatch.setattr(planning, "_speed", lambda _: (1e12, "a guess"))


@pytest.mark.parametrize("plan", [False, True])
@pytest.mark.usefixtures("no_clock")
def test_fewer_tokens_than_a_shard_asks_for(tmp_path: Path, plan: bool) -> None:
    study = study_of(tmp_path, [LONG] * 19)
    with pytest.raises(
        ValueError, match=r"shard 1, 9 documents give 72 tokens .* asks for 80: lower it, or the"
    ):
        make_plan(study) if plan else preflight(study)


@pytest.mark.usefixtures("no_clock")
def test_a_plan_says_what_the_corpus_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def corpus_row(study: Study) -> tuple[str, str]:
        return next(row[1:] for row in rows_of(make_plan(study)) if row[0] == "corpus")

    study = study_of(tmp_path, [LONG] * 20)
    assert corpus_row(study) == ("20 documents", "all 2 shards have their tokens")
    monkeypatch.setattr(supply, "CHARACTERS", 5 * len(LONG))
    study = study_of(tmp_path, [LONG] * 21)
    said = "by its first 5 documents, the 10 of shard 0 give about 80 tokens of the 80 asked for"
    assert corpus_row(study) == ("20 documents", said)
    assert not caplog.records
    study = study_of(tmp_path, [LONG[:-3]] * 22)
    assert "give about 40 tokens of the 80" in corpus_row(study)[1]
    assert "it may end too early" in caplog.text
    unmade = study.model_copy(update={"corpus": CorpusSettings(files="data/none/*.jsonl")})
    assert corpus_row(unmade)[0] == "not known yet"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    study = study_of(tmp_path, [LONG] * 20)
    (tmp_path / "corpus.jsonl").write_text('{"body": "a1"}\n')
    with pytest.raises(ValueError, match=r"corpus\.jsonl has no column 'text'; it has \['body'\]"):
        preflight(study)


def model_with(tmp_path: Path, home: Path, **tokenizer: str | None) -> str:
    """The toy's model with a tokenizer of other roles."""
    folder = tmp_path / "model"
    shutil.copytree(home / "data/inputs/toy/model", folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | tokenizer
    path.write_text(json.dumps({name: value for name, value in config.items() if value}))
    return str(folder)


def test_a_model_folder_without_tokenizer(tmp_path: Path, home: Path) -> None:
    folder = model_with(tmp_path, home)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (Path(folder) / name).unlink()
        with pytest.raises(
            ValueError, match=r"the model folder .*model has no tokenizer that trans"
        ):
            preflight(small_study(model=folder))
    (Path(folder) / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the model folder .*model has no tokenizer that trans"):
        preflight(small_study(model=folder))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_model_folder_with_two_sets_of_weights(tmp_path: Path, home: Path, weights: str) -> None:
    model = shutil.copytree(home / "data/inputs/toy/model", tmp_path / "model")
    (model / "model.safetensors").rename(model / weights)
    index = model / f"{weights}.index.json"
    index.write_text(json.dumps({"weight_map": {"a": weights}}))
    preflight(small_study(model=str(model)))
    index.write_text(json.dumps({"weight_map": {"a": "part_1", "b": "part_2"}}))
    said = f"has {weights}, which would be loaded, and {index.name}, which names others"
    with pytest.raises(ValueError, match=re.escape(said)):
        preflight(small_study(model=str(model)))


def test_bos_is_asked_for_before_the_first_document(tmp_path: Path, home: Path) -> None:
    no_bos = model_with(tmp_path, home, bos_token=None)
    with pytest.raises(ValueError, match=r"the SAE wants BOS .* neither BOS nor end-of-text: set"):
        preflight(small_study(model=no_bos))
    for said in ("no", "a1"):
        cache = small_study().cache.model_copy(update={"prepend_bos": said})
        preflight(small_study(model=no_bos, cache=cache))
    sae = sae_with(tmp_path, home, metadata={"prepend_bos": False})
    preflight(small_study(model=no_bos, sae=sae))
    cache = small_study().cache.model_copy(update={"prepend_bos": "a1 a2"})
    with pytest.raises(ValueError, match=r"prepend_bos is 'a1 a2', which the tokenizer does not"):
        preflight(small_study(cache=cache))


def test_a_bos_that_the_model_has_no_embedding_of(tmp_path: Path, home: Path) -> None:
    folder = model_with(tmp_path, home, bos_token="<other>")
    with pytest.raises(ValueError, match=r"is number 26 and .*model has tokens 0 to 25: set"):
        preflight(small_study(model=folder))


def test_an_sae_of_another_width(tmp_path: Path, home: Path) -> None:
    sae = sae_with(tmp_path, home, d_in=65)
    with pytest.raises(ValueError, match=r"width 65 and .* has width 64: they do not belong"):
        preflight(small_study(sae=sae))


def test_an_sae_of_a_layer_that_is_not_there(tmp_path: Path, home: Path) -> None:
    sae = sae_with(tmp_path, home, metadata={"hook_name": "blocks.3.hook_resid_post"})
    with pytest.raises(ValueError, match=r"reads layer 3 and .* layers 0 to 2"):
        preflight(small_study(sae=sae))


def with_tokenizer(folder: Path, home: Path) -> str:
    """The folder of a model's config, with the toy's tokenizer in it."""
    for file in (home / "data/inputs/toy/model").glob("tokenizer*"):
        shutil.copy(file, folder)
    return str(folder)


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
    model_config(tmp_path, {"model_type": "gemma3", "text_config": text})
    sae = sae_with(tmp_path, home)
    preflight(small_study(model=with_tokenizer(tmp_path, home), sae=sae))


@pytest.mark.parametrize("family", ["bloom", "mamba"])
def test_a_model_that_states_no_longest_sequence(family: str, tmp_path: Path, home: Path) -> None:
    config = {"model_type": family, "hidden_size": 64, "num_hidden_layers": 3, "n_layer": 3}
    model_config(tmp_path, config)
    preflight(small_study(model=with_tokenizer(tmp_path, home)))
