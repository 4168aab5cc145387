"""A tiny training run writes a toy that the usual libraries load."""

import json
from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from aanet_assets.science.toy.process import UNION7
from aanet_assets.science.toy.train import train_toy
from aanet_assets.science.toy.transformer import make_tokenizer, quality, residuals, with_bos


def train_tiny(folder: Path) -> None:
    train_toy(folder, steps=6, sae_documents=512, sae_steps=6, seed=3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "toy"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "leftover").touch()
    threads = torch.get_num_threads()
    random_state = torch.get_rng_state()
    train_tiny(folder)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random_state)
    return folder


def test_everything_is_written_and_nothing_is_left_over(tiny):
    assert sorted(part.name for part in tiny.iterdir()) == ["model", "sae", "training.json"]
    assert not (tiny / "model" / "leftover").exists()
    assert list(tiny.parent.iterdir()) == [tiny]
    record = json.loads((tiny / "training.json").read_text())
    assert record["transformer"]["steps"] == 6
    assert record["transformer"]["loss"] > record["transformer"]["bayes_loss"]


def test_model_loads_with_the_shape_that_was_asked_for(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    config = model.config
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (64, 3, 4, 17)
    assert (config.activation_function, config.resid_pdrop) == ("relu", 0.0)
    assert model.dtype == torch.float32
    assert config.bos_token_id == 23


def test_tokenizer_maps_letters_to_their_numbers_and_back(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny / "model")
    assert tokenizer("a1 a3 d2 g4")["input_ids"] == [23, 0, 2, 10, 22]
    assert tokenizer("a1", add_special_tokens=False)["input_ids"] == [0]
    assert tokenizer("a9")["input_ids"] == [23, tokenizer.unk_token_id]
    assert tokenizer.decode([0, 2, 10, 22]) == "a1 a3 d2 g4"
    assert tokenizer.bos_token_id == 23
    assert set(tokenizer.all_special_ids) == {23, 24, 25}


def test_tokenizer_agrees_with_the_ids_used_in_training(tiny):
    letters = UNION7.sample(20, 16, seed=0)
    texts = [" ".join(UNION7.letters[i] for i in document) for document in letters]
    assert make_tokenizer(UNION7)(texts)["input_ids"] == with_bos(letters, UNION7).tolist()


def test_sae_loads_and_its_codes_times_decoder_rows_are_the_reconstruction(tiny):
    sae = SAE.load_from_disk(tiny / "sae")
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.k) == (64, 32, 3)
    assert sae.cfg.normalize_activations == "none"
    metadata = sae.cfg.metadata
    assert metadata.hook_name == "blocks.2.hook_resid_post"
    assert (metadata.prepend_bos, metadata.context_size) == (True, 17)
    x = 5 * torch.randn(100, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        codes = sae.encode(x)
        assert (codes > 0).sum(1).max() <= 3
        torch.testing.assert_close(codes @ sae.W_dec + sae.b_dec, sae.decode(codes))
        torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(32))


def test_equal_seeds_give_equal_weights(tiny, tmp_path):
    train_tiny(tmp_path / "again")
    for file in ("model/model.safetensors", "sae/sae_weights.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (tiny / file).read_bytes()


def test_residuals_are_the_last_hidden_state_before_the_final_norm(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    assert isinstance(model, GPT2LMHeadModel)
    letters = UNION7.sample(300, 16, seed=0)
    found = residuals(model, UNION7, letters, layer=2)
    assert found.shape == (300 * 16, 64)
    with torch.no_grad():
        normed = model.transformer(with_bos(letters[-5:], UNION7)).last_hidden_state[:, 1:]
        torch.testing.assert_close(model.transformer.ln_f(found[-80:]), normed.flatten(0, 1))


def test_quality_of_an_untrained_model_is_that_of_guessing(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    assert isinstance(model, GPT2LMHeadModel)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = quality(model, UNION7, UNION7.sample(200, 16, seed=0))
    assert found.loss == pytest.approx(torch.tensor(26.0).log().item())
    assert found.bayes_top1 > found.top1
