"""Whether an SAE belongs where it is used: measured against dense codes, and judged."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from aanet_assets.science.activations import encode
from aanet_assets.science.activations.fit import measure_fit, neighbours, unexplained_of
from aanet_assets.science.activations.sae import load_sae
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.toy.corpus import text_of
from aanet_assets.science.toy.process import UNION7
from aanet_assets.steps.activations import SAE_FIT, sae_fit
from aanet_assets.study.settings import CacheSettings, CorpusSettings, FitSettings, SaeSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.outputs import findings, write
from aanet_assets_tests.small import small_study

DOCUMENTS = 60
FIT = {
    "tokens": 9, "latents": 100, "l0": 24.9, "unexplained": 0.1, "median_unexplained": 0.1,
    "largest_share": 0.1, "reconstruction_gap": 1e-6, "zero_rows": [],
    "hook": "blocks.2.hook_resid_pre", "hook_unexplained": 0.1,
    "best_hook": "blocks.2.hook_resid_pre", "best_unexplained": 0.1, "bytes_per_token": 99.0,
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Documents of two chunks."""
    texts = [text_of(letters) for letters in UNION7.sample(DOCUMENTS, 40, seed=3)]
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "corpus.parquet")
    return small_study(
        truth=None,
        selection={},
        corpus=CorpusSettings(files=str(tmp_path / "corpus.parquet")),
        cache=CacheSettings(seq_len=17, documents_per_shard=60, tokens_per_shard=17),
        fit=FitSettings(tokens=100 * 17),
    )


def with_sae(study: Study, home: Path, folder: Path, **metadata: Any) -> Study:
    """The study with a copy of its SAE, and what that says of itself changed."""
    sae = shutil.copytree(home / "data/inputs/toy/sae", folder / "sae")
    config = json.loads((sae / "cfg.json").read_text())
    config["metadata"].update(metadata)
    (sae / "cfg.json").write_text(json.dumps(config))
    return study.model_copy(update={"sae": SaeSettings(directory=str(sae))})


def judged(study: Study, fit: dict, doubts: tuple[str, ...] = ()) -> dict[str, str]:
    """What the checks find wrong with a fit, by check."""
    # Under a name of its own: others read the tables of the small study.
    unfit = study.model_copy(update={"name": "unfit"})
    row = {"sae_id": "s", **fit, **study.revisions, "doubts": list(doubts)}
    write(unfit, sae_fit.at(), SAE_FIT, pd.DataFrame([row]))
    found = findings(unfit, sae_fit.at()).values()
    return {finding.name: finding.said for finding in found if not finding.passed}


def test_the_fit_is_that_of_dense_codes(study: Study) -> None:
    few = study.model_copy(update={"fit": FitSettings(tokens=10 * 17)})
    fit, rate = measure_fit(few)
    encoder = encode.Encoder(study)
    texts = [text_of(letters) for letters in UNION7.sample(DOCUMENTS, 40, seed=3)[:5]]
    bos = encoder.tokenizer.bos_token_id
    streams, active = [], []
    for text in texts:
        ids = [bos, *encoder.tokenizer(text, add_special_tokens=False)["input_ids"]]
        for start in (0, 17):
            stream = encoder.read(torch.tensor([ids[start : start + 17]]))[0, 1:]
            streams.append(stream)
            active.append((encoder.sae.encode(stream) > 0).sum(1).float())
    stream = torch.cat(streams)
    with torch.no_grad():
        residual = stream - encoder.sae.decode(encoder.sae.encode(stream))
    unexplained = residual.square().sum() / (stream - stream.mean(0)).square().sum()
    assert fit.tokens == len(stream) == 160
    assert fit.l0 == pytest.approx(float(torch.cat(active).mean()))
    assert fit.unexplained == pytest.approx(float(unexplained), rel=1e-4)
    assert rate > 0

    # By token, without the largest 1% (two of 160) in the mean.
    squares = (stream - stream.mean(0)).square().sum(1)
    order = squares.argsort()
    shares = residual.square().sum(1) / (stream - stream[order[:-2]].mean(0)).square().sum(1)
    assert fit.median_unexplained == pytest.approx(np.median(shares.numpy()), rel=1e-3)
    assert fit.largest_share == pytest.approx(float(squares[order[-2:]].sum() / squares.sum()))
    assert fit.latents == 32
    assert fit.zero_rows == []
    assert fit.reconstruction_gap < 1e-5
    assert fit.hook == fit.best_hook == "blocks.2.hook_resid_post"
    assert judged(study, fit._asdict()) == {}


@pytest.mark.parametrize(
    ("measured", "failed"),
    [
        ({}, set()),
        ({"l0": 0.4}, {"active_latents"}),
        ({"l0": 2_000.0, "latents": 10_000}, {"active_latents"}),
        ({"l0": 25.1}, {"active_latents"}),
        ({"unexplained": 0.6}, {"explains"}),
        ({"unexplained": float("nan")}, {"explains"}),
        ({"median_unexplained": 0.6}, {"explains_most_tokens"}),
        ({"median_unexplained": float("nan")}, {"explains_most_tokens"}),
        ({"reconstruction_gap": 0.01}, {"is_the_reconstruction"}),
        ({"reconstruction_gap": float("nan")}, {"is_the_reconstruction"}),
        ({"best_hook": "blocks.3.hook_resid_pre", "best_unexplained": 0.07}, {"right_layer"}),
        ({"best_hook": "blocks.3.hook_resid_pre", "best_unexplained": 0.09}, set()),
        ({"largest_share": 0.6}, {"few_large_tokens"}),
        ({"zero_rows": [3, 7]}, {"decoder_rows"}),
    ],
)
def test_an_sae_that_does_not_belong_is_refused(
    study: Study, home: Path, measured: dict, failed: set[str]
) -> None:
    found = judged(study, FIT | measured)
    assert set(found) == failed
    assert not any("nan%" in said for said in found.values())


def test_how_many_latents_may_be_active_is_a_setting(study: Study, home: Path) -> None:
    fit = FIT | {"latents": 17, "l0": 5.0}
    assert "1 to 4.25" in judged(study, fit)["active_latents"]
    dense = study.model_copy(update={"fit": FitSettings(max_l0_share=0.3)})
    assert judged(dense, fit) == {}


def test_one_point_has_two_names(study: Study, home: Path) -> None:
    found = judged(study, FIT | {"best_hook": "blocks.3.hook_resid_pre", "best_unexplained": 0.01})
    assert (
        "blocks.3.hook_resid_pre (which is blocks.2.hook_resid_post) fits best: 1.0% of"
        in found["right_layer"]
    )


def test_doubts_are_warnings(study: Study, home: Path) -> None:
    found = judged(study, FIT, doubts=("one thing", "another"))
    assert found == {"says_the_same": "one thing; another"}


def test_one_huge_token_in_500_hides_nothing() -> None:
    rng = np.random.default_rng(0)
    stream = rng.normal(size=(2_000, 8)) + 1
    stream[::500, 0] = 1_000
    # What is huge is rebuilt to the last bit, and of all else nothing but the mean.
    errors = np.where(stream[:, 0] > 100, 0, np.square(stream - 1).sum(axis=1))
    found = unexplained_of(stream, errors)
    assert found.whole < 0.005
    assert found.median == pytest.approx(1, abs=0.05)
    assert found.largest_share > 0.99


def test_a_stream_that_does_not_vary_is_no_number() -> None:
    assert np.isnan(unexplained_of(np.ones((5, 3)), np.zeros(5))).all()


@pytest.mark.parametrize(
    ("hook", "layers", "beside"),
    [
        (Hook(2, "post"), 9, "0 post, 1 post, 2 post, 3 post"),
        (Hook(2, "pre"), 9, "1 pre, 2 pre, 3 pre, 4 pre"),
        (Hook(0, "post"), 9, "0 pre, 0 post, 1 post"),
        (Hook(0, "pre"), 9, "0 pre, 1 pre, 2 pre"),
        (Hook(2, "post"), 3, "0 post, 1 post, 2 post"),
        (Hook(2, "pre"), 3, "1 pre, 2 pre, 2 post"),
        (Hook(1, "post"), 3, "0 pre, 0 post, 1 post, 2 post"),
    ],
)
def test_neighbours_are_one_layer_below_and_above(hook: Hook, layers: int, beside: str) -> None:
    found = neighbours(hook, layers)
    assert ", ".join(f"{one.layer} {one.side}" for one in found) == beside


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("blocks.1.hook_resid_post", "blocks.2.hook_resid_post"),
        ("blocks.2.hook_resid_pre", "blocks.2.hook_resid_post"),
        ("blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"),
    ],
)
def test_the_sae_of_another_layer_is_told_which_fits_best(
    study: Study, home: Path, tmp_path: Path, named: str, said: str
) -> None:
    wrong = with_sae(study, home, tmp_path, hook_name=named)
    fit = measure_fit(wrong)[0]
    lenient = {"unexplained": 0.4, "median_unexplained": 0.4}
    found = judged(study, fit._asdict() | lenient)
    assert set(found) == {"right_layer"}
    assert f"{said} fits best" in found["right_layer"]
    assert f"of the hook {named}, which the SAE names" in found["right_layer"]


def test_a_step_between_codes_and_reconstruction_is_found(
    study: Study, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(settings: SaeSettings, device: str):
        sae = load_sae(settings, device)
        sae.hook_sae_recons.register_forward_hook(lambda _module, _inputs, out: out + 0.1 * out**2)
        return sae

    monkeypatch.setattr(encode, "load_sae", load)
    assert "is_the_reconstruction" in judged(study, measure_fit(study)[0]._asdict())


@pytest.mark.parametrize("normalised", ["layer_norm", "constant_norm_rescale"])
def test_an_sae_that_normalises_each_token_passes(
    study: Study, home: Path, tmp_path: Path, normalised: str
) -> None:
    other = with_sae(study, home, tmp_path)
    path = tmp_path / "sae/cfg.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"normalize_activations": normalised})
    )
    assert measure_fit(other)[0].reconstruction_gap < 1e-5


def test_latents_whose_row_is_zero_are_named(study: Study, home: Path, tmp_path: Path) -> None:
    other = with_sae(study, home, tmp_path)
    path = tmp_path / "sae/sae_weights.safetensors"
    weights = load_file(path)
    weights["W_dec"][[3, 8]] = 0
    save_file(weights, path)
    fit = measure_fit(other)[0]
    assert fit.zero_rows == [3, 8]
    assert np.isfinite(fit.unexplained)
    assert (
        "2 of 32 decoder rows are zero (latents 3, 8)"
        in judged(study, fit._asdict())["decoder_rows"]
    )


def test_a_corpus_of_special_tokens_alone(study: Study, tmp_path: Path) -> None:
    bos = encode.load_tokenizer(study).bos_token
    assert isinstance(bos, str)
    pd.DataFrame({"text": [" ".join([bos] * 40)] * 3}).to_parquet(tmp_path / "corpus.parquet")
    with pytest.raises(ValueError, match="are special tokens, which never count"):
        measure_fit(study)
