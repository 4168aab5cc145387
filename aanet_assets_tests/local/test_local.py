"""Prose that is prose, models that are found, and an SAE in the place of a residual stream."""

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import SAE
from transformers import AutoModelForCausalLM

from aanet_assets.checks import local as checks
from aanet_assets.checks.local import check_prose, check_sae
from aanet_assets.local import prose
from aanet_assets.local.model import gguf_file
from aanet_assets.local.prose import is_prose, write_prose
from aanet_assets.local.sae import splice
from aanet_assets.toy.corpus import text_of
from aanet_assets.toy.process import UNION7
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


class _Half:
    """Codes are the stream itself, and half of it comes back."""

    def encode(self, stream: torch.Tensor) -> torch.Tensor:
        return stream

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes / 2


def test_what_is_spliced_in_is_seen_by_the_layers_above(home: Path) -> None:
    study = small_study()
    model = AutoModelForCausalLM.from_pretrained(study.model_source).eval()
    tokens = np.random.default_rng(0).integers(0, 23, (10, 17))
    special = np.zeros(tokens.shape, dtype=bool)
    special[:, 0] = True
    ids, mean = torch.from_numpy(tokens), torch.zeros(64)
    losses = splice(study, cast(SAE, _Half()), 1, tokens, special, mean)
    block = model.base_model.h[1] if hasattr(model.base_model, "h") else model.base_model.layers[1]
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
