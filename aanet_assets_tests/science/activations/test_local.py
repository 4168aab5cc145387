"""Prose that is prose, models that are found, and an SAE in the place of a residual stream."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import SAE, StandardSAE, StandardSAEConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from aanet_assets.science.activations import own_sae as local_sae
from aanet_assets.science.activations import prose
from aanet_assets.science.activations.gguf_model import gguf_file
from aanet_assets.science.activations.own_sae import splice, write_sae
from aanet_assets.science.activations.prose import is_prose, write_prose
from aanet_assets.science.toy.corpus import text_of
from aanet_assets.science.toy.process import UNION7
from aanet_assets.steps.checks import local as checks
from aanet_assets.steps.checks.local import check_prose, check_sae
from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

SENTENCE = "The cat sat on the mat, and it was as happy as a cat can be on any day of the week."


@pytest.mark.parametrize(
    ("paragraph", "kept"),
    [
        (SENTENCE, True),
        ("The cat sat.", False),
        (f">>> print('{SENTENCE}')", False),
        ("x = f(a[i], b[j]) + g(c, {1: 2}); y = h(x) # and so on. 12 34 56 78 90 12 34 56", False),
        ("Parameters arguments keyword optional returns raises warnings examples. " * 2, False),
    ],
)
def test_prose_is_sentences(paragraph: str, kept: bool) -> None:
    assert is_prose(paragraph) == kept


def test_docstrings_and_readmes_become_documents_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, docs = tmp_path / "site-packages", tmp_path / "doc"
    paragraphs = [SENTENCE.replace("cat", word) for word in ("dog", "hen", "fox", "ape", "elk")]
    body = "\n\n    ".join([*paragraphs, *(f"So it was. {p}" for p in paragraphs)])
    packages.mkdir()
    (packages / "a.py").write_text(f'def f():\n    """{body}\n\n    x : int\n    """\n')
    (packages / "broken.py").write_text("def f(:\n")
    docs.mkdir()
    (docs / "README").write_text(body.replace("dog", "DOG"))
    (docs / "changelog.log").write_text(body.replace("dog", "owl"))
    monkeypatch.setattr(prose, "DEBIAN", (docs,))
    paths = {"purelib": str(packages), "stdlib": str(tmp_path / "lib")}
    monkeypatch.setattr(prose.sysconfig, "get_path", paths.get)
    path = tmp_path / "prose.parquet"
    documents, characters = write_prose(path, 10_000, seed=1)
    table = pd.read_parquet(path)
    assert list(table["source"]) == [str(packages / "a.py")], "the README repeats the docstring"
    assert table["text"][0].split("\n\n") == body.split("\n\n    ")
    assert (documents, characters) == (1, len(table["text"][0]))
    assert check_prose(path)[0].passed


def test_a_package_without_a_model() -> None:
    with pytest.raises(ValueError, match=r"'no_such_package' is not installed; it must carry one"):
        gguf_file("no_such_package")
    with pytest.raises(ValueError, match=r"'json' carries 0 GGUF files"):
        gguf_file("json")


@pytest.fixture
def with_corpus(home: Path, tmp_path: Path) -> Study:
    """The toy's model and 400 documents of its language, for a study that trains its own SAE."""
    texts = [text_of(row) for row in UNION7.sample(400, 33, seed=3)]
    (tmp_path / "corpus.txt").write_text("\n".join(texts))
    return small_study(
        truth=None,
        selection={},
        corpus={"files": str(tmp_path / "corpus.txt")},
        local={
            "package": "none",
            "layer": 1,
            "latents": 96,
            "active": 6,
            "sae_tokens": 8_192,
            "sae_steps": 60,
        },
    )


def test_an_sae_is_trained_on_the_studys_own_model_and_corpus(
    with_corpus: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_sae, "_FRESH", 2_000)
    # All cores for so small a model, beside other tests, are many times slower than one.
    monkeypatch.setattr(local_sae, "torch_threads", nullcontext)
    local = with_corpus.local
    assert local is not None
    said = write_sae(with_corpus, local, tmp_path / "sae")
    sae = SAE.load_from_disk(str(tmp_path / "sae"))
    assert sae.cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    assert sae.W_dec.shape == (96, 64)
    assert 0.5 < said["explained_variance"] < 1
    assert said["whole"] < said["spliced"] < said["ablated"]

    # What is said of it, on the whole corpus, by the whole model of transformers.
    tokenizer = AutoTokenizer.from_pretrained(with_corpus.model_source)
    texts = (tmp_path / "corpus.txt").read_text().splitlines()
    rows = [
        [tokenizer.bos_token_id, *tokenizer(t, add_special_tokens=False)["input_ids"]]
        for t in texts
    ]
    tokens = torch.tensor([row[i : i + 17] for row in rows for i in (0, 17) if len(row) >= i + 17])
    model = AutoModelForCausalLM.from_pretrained(with_corpus.model_source).eval()
    with torch.inference_mode():
        stream = model(tokens, output_hidden_states=True).hidden_states[2][:, 1:].flatten(0, 1)
        codes = sae.encode(stream)
        error = (stream - sae.decode(codes)).square().sum()
    unexplained = float(error / (stream - stream.mean(0)).square().sum())
    assert 1 - unexplained == pytest.approx(said["explained_variance"], abs=0.05)
    assert float((codes > 0).float().sum(-1).mean()) == pytest.approx(said["l0"], rel=0.1)


def test_a_corpus_too_short_to_train_on(with_corpus: Study, tmp_path: Path) -> None:
    local = with_corpus.local
    assert local is not None
    with pytest.raises(ValueError, match=r"training the SAE needs 58,192: lower local.sae_tokens"):
        write_sae(with_corpus, local, tmp_path / "sae")


def _half() -> SAE:
    """Its codes are the stream's positive and negative parts, and half of it comes back."""
    sae = StandardSAE(StandardSAEConfig(d_in=64, d_sae=128, apply_b_dec_to_input=False))
    both = torch.cat([torch.eye(64), -torch.eye(64)])
    sae.load_state_dict(
        {"W_enc": both.T, "W_dec": both / 2, "b_enc": torch.zeros(128), "b_dec": torch.zeros(64)}
    )
    return sae


def test_what_is_spliced_in_is_seen_by_the_layers_above(home: Path) -> None:
    study = small_study()
    model = AutoModelForCausalLM.from_pretrained(study.model_source).eval()
    assert isinstance(model, GPT2LMHeadModel)
    tokens = np.random.default_rng(0).integers(0, 23, (10, 17))
    special = np.zeros(tokens.shape, dtype=bool)
    special[:, 0] = True
    ids, mean = torch.from_numpy(tokens), torch.zeros(64)
    losses = splice(study, _half(), 1, tokens, special, mean)
    block = model.transformer.h[1]
    assert losses.whole == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-5)
    for expected, factor in ((losses.spliced, 0.5), (losses.ablated, 0.0)):

        def halve(_block, _inputs, output, factor=factor):
            stream = output if torch.is_tensor(output) else output[0]
            stream = torch.cat([stream[:, :1], stream[:, 1:] * factor], dim=1)
            return stream if torch.is_tensor(output) else (stream, *output[1:])

        handle = block.register_forward_hook(halve)
        assert expected == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-5)
        handle.remove()


def test_what_is_not_good_enough_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "training.json").write_text('{"explained_variance": 0.4}')
    assert "explains 40.0% of the variance" in check_sae(tmp_path)[0].said
    assert not check_sae(tmp_path)[0].passed
    pd.DataFrame({"text": ["a", "", "a"]}).to_parquet(tmp_path / "p.parquet")
    (finding,) = check_prose(tmp_path / "p.parquet")
    assert not finding.passed
    assert "3 documents, 1 without text, 1 equal to another" in finding.said


def test_a_model_that_cannot_predict_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy's own language, and nonsense in its letters."""
    own = " ".join(text_of(letters) for letters in UNION7.sample(1, 16, seed=0))
    for sentence, passed in ((own, True), (" ".join(reversed(UNION7.letters[:16])), False)):
        monkeypatch.setattr(checks, "SENTENCE", sentence)
        (finding,) = checks.check_language_model(small_study())
        assert finding.passed == passed, finding.said
