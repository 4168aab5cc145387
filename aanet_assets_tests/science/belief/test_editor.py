"""Edits of single tokens of a model with layers above the hook, and which tokens are edited."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from transformers import AutoModelForCausalLM

from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.activations.upper import UpperReader
from aanet_assets.science.belief import editor as editors
from aanet_assets.science.belief.editor import Editor
from aanet_assets.science.belief.heldout import Heldout, Placed, spread
from aanet_assets.study.settings import SaeSettings
from aanet_assets.study.study import Study, resolve
from aanet_assets_tests.science.activations.families import written
from aanet_assets_tests.science.activations.test_upper import with_hook
from aanet_assets_tests.small import small_study

RNG = np.random.default_rng(5)
CHUNKS, SEQ, WORDS, WIDTH = 20, 9, 50, 32


@pytest.fixture
def study(tmp_path: Path, home: Path) -> Study:
    """A model of three layers, with an SAE after the second one."""
    _, directory = written(tmp_path / "model", "llama")
    said = json.loads((resolve("data/inputs/toy/sae") / "cfg.json").read_text())
    said["metadata"]["hook_name"] = "blocks.1.hook_resid_post"
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps(said))
    return small_study(model=directory, sae=SaeSettings(directory=str(tmp_path / "sae")))


@pytest.fixture
def heldout() -> Heldout:
    """Chunks of random tokens, one document each."""
    text = RNG.integers(0, WORDS, (CHUNKS, SEQ))
    chunks, positions = np.divmod(np.arange(text.size), SEQ)
    return Heldout(
        sp.csr_matrix(np.zeros((text.size, 4), dtype=np.float32)),
        np.zeros((text.size, WORDS), dtype=np.float16),
        text.ravel(),
        text.ravel(),
        chunks,
        positions,
        chunks,
        text,
        np.ones(WORDS, dtype=bool),
    )


@pytest.mark.parametrize("kept", [editors.KEPT, 0, 20_000])
def test_an_edit_is_what_the_whole_model_makes_of_it(
    study: Study, heldout: Heldout, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editors, "KEPT", kept)
    editor = Editor(study, heldout, np.arange(WORDS))
    model = AutoModelForCausalLM.from_pretrained(study.model).eval()
    for _ in range(2):
        tokens = RNG.permutation(CHUNKS * SEQ)[:50]
        edits = RNG.normal(size=(50, 3, WIDTH))
        found, streams = editor.predict(tokens, edits), editor.residual(tokens)
        for token, own, predicted, stream in zip(tokens, edits, found, streams, strict=True):
            chunk, at = divmod(int(token), SEQ)
            ids = torch.from_numpy(heldout.text[[chunk]])
            seen = model(ids, output_hidden_states=True).hidden_states[2][0, at]
            np.testing.assert_allclose(stream, seen.detach().numpy(), atol=1e-5)
            for edit, p in zip(torch.from_numpy(own).float(), predicted, strict=True):
                whole = with_hook(model, Hook(1, "post"), ids, edit[None], at)
                np.testing.assert_allclose(p, whole[0, at].softmax(-1).numpy(), atol=1e-6)


def test_a_chunk_is_run_once_for_all_clusters(
    study: Study, heldout: Heldout, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, read = Editor(study, heldout, np.arange(WORDS)), []
    real = UpperReader.before_edits

    def counted(self: UpperReader, tokens: torch.Tensor, residual: torch.Tensor) -> list:
        read.extend(map(tuple, tokens.tolist()))
        return real(self, tokens, residual)

    monkeypatch.setattr(UpperReader, "before_edits", counted)
    for _ in range(3):
        tokens = RNG.permutation(CHUNKS * SEQ)[:100]
        editor.predict(tokens, RNG.normal(size=(100, 1, WIDTH)))
        editor.residual(tokens)
    assert len(read) == len(set(read)) == CHUNKS


def test_edited_tokens_are_of_many_chunks_and_of_the_same_ones_for_all_clusters(
    heldout: Heldout,
) -> None:
    def of(tokens: np.ndarray, most: int) -> Placed:
        rows = tokens[:, None].astype(np.float64)
        return spread(heldout, Placed(tokens, rows, rows), most, 3)

    often, seldom = np.arange(0, CHUNKS * SEQ, 2), np.arange(0, CHUNKS * SEQ, 12)
    some, others = of(often, 8), of(often[1:], 8)
    assert len(np.unique(heldout.chunks[some.tokens])) == 8
    assert set(heldout.chunks[some.tokens]) == set(heldout.chunks[others.tokens])
    np.testing.assert_array_equal(some.rows[:, 0], some.tokens)
    assert (np.diff(some.tokens) > 0).all()
    few = of(seldom, 8)
    assert len(np.unique(heldout.chunks[few.tokens])) == 8
    # More tokens than chunks: a second one of some of them, and none twice.
    many = of(often, 30)
    assert len(np.unique(many.tokens)) == 30
    assert np.bincount(heldout.chunks[many.tokens]).tolist().count(1) == 10
    assert len(of(seldom, 1_000).tokens) == len(seldom)
