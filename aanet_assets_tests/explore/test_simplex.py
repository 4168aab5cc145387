"""A simplex in Python, against what the pipeline stored of the same tokens."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from aanet_assets import Simplex
from aanet_assets.explore.opened import OpenStudy
from aanet_assets.science.aanet.export import load_aanet
from aanet_assets.science.activations.rows import active_rows, load_cluster
from aanet_assets.science.activations.shards import read_shard
from aanet_assets.science.vertices.collect import barycentric_rows
from aanet_assets.steps.activations import SHARD
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, cluster_rows
from aanet_assets.steps.vertices import MODEL, VERTEX_SAMPLES, vertex_samples
from aanet_assets.storage.inputs import input_hashes
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.explore.conftest import N
from aanet_assets_tests.explore.texts import heldout_texts, silent_text
from aanet_assets_tests.outputs import read
from aanet_assets_tests.science.activations.tokenizers import small_tokenizer


@pytest.fixture(scope="module")
def texts(finished: Finished) -> list[str]:
    return heldout_texts(finished.study)


def numbers(frame: pd.DataFrame, k: int) -> np.ndarray:
    """Coordinates and distances of all tokens."""
    return frame[[f"{n}_{i}" for n in ("b", "distance") for i in range(1, k + 1)]].to_numpy()


@pytest.mark.parametrize(("cluster", "k"), [(0, 3), (3, 2)])
def test_coordinates_are_those_of_the_activation_cache(
    finished: Finished, opened: OpenStudy, texts: list[str], cluster: int, k: int
) -> None:
    study, root = finished.study, finished.study.paths.root
    found = opened.simplex(N, cluster).project(texts)
    shard = read_shard(SHARD.under(root, shard=study.heldout_shards[0]))
    own = load_cluster(CLUSTERING.under(root, n=N), cluster)
    limits = read(study, cluster_rows.at(n=N), CLUSTERS).set_index("cluster_id")["activity_limit"]
    tokens = len(texts) * study.cache.seq_len
    active, rows = active_rows(shard.codes[:tokens][:, own.latents], own, float(limits[cluster]))
    model = load_aanet(MODEL.under(root, n=N, cluster_id=cluster, k=k, category="M"))
    expected = barycentric_rows(model, rows, own.basis)
    assert len(found) == tokens
    assert np.flatnonzero(found["active"]).tolist() == active.tolist()
    assert len(active) > 50
    np.testing.assert_allclose(numbers(found, k)[active, :k], expected, atol=1e-3)
    assert np.isnan(numbers(found[~found["active"]], k)).all()
    assert found["vertex_id"].isna().tolist() == (~found["active"]).tolist()
    assert (found["counted"] == (found["position"] > 0)).all()


def test_vertex_samples_are_where_they_were_stored(finished: Finished, simplex: Simplex) -> None:
    samples = read(finished.study, vertex_samples.at(n=N), VERTEX_SAMPLES)
    own = samples[samples["cluster_id"] == 0].to_dict("records")[::7]
    found = simplex.project([sample["full_text"] for sample in own])
    assert len(own) > 5
    for number, sample in enumerate(own):
        frame = found[found["text"] == number].reset_index(drop=True)
        there = frame.loc[list(sample["trigger_token_indices"])]
        distance = there[f"distance_{sample['vertex_id'] + 1}"]
        np.testing.assert_allclose(distance, sample["distances_to_vertex"], atol=1e-3)
        assert there["token"].tolist() == list(sample["trigger_words"])
        assert there["start"].tolist() == list(sample["trigger_token_starts"])
        assert there["end"].tolist() == list(sample["trigger_token_ends"])


def test_vertices_are_decoded_archetypes_that_project_onto_themselves(
    finished: Finished, simplex: Simplex
) -> None:
    file = MODEL.under(finished.study.paths.root, n=N, cluster_id=0, k=3, category="M")
    state = torch.load(file, weights_only=True)
    x = simplex._model.vertices
    for i in range(3):
        x = x @ state[f"decoder_layers.{i}.weight"].T + state[f"decoder_layers.{i}.bias"]
        x = x.relu() if i < 2 else x
    assert simplex.vertices.shape == (3, 64)
    np.testing.assert_allclose(simplex.vertices, x.numpy(), atol=1e-5)


def test_any_number_of_tokens_and_those_of_a_long_text_in_chunks(
    simplex: Simplex, text: str
) -> None:
    whole = simplex.project(" ".join(["a1 a2 b1 a3 c1"] * 4))
    assert whole["position"].tolist() == list(range(21))
    assert whole["counted"].tolist() == [i not in (0, 17) for i in range(21)]
    # The part that fits into the first chunk does not depend on what follows.
    first = simplex.project(" ".join(["a1 a2 b1 a3 c1"] * 4)[: 16 * 3])
    assert len(first) == 17
    np.testing.assert_allclose(numbers(whole[:17], 3), numbers(first, 3), atol=1e-4)
    short = simplex.project("a1 a2")
    np.testing.assert_allclose(numbers(first[:3], 3), numbers(short, 3), atol=1e-4)
    one_by_one = [simplex.project(each) for each in ("a1 a2", text)]
    both = simplex.project(["a1 a2", text])
    assert both["text"].tolist() == [0] * 3 + [1] * 17
    np.testing.assert_allclose(
        numbers(both, 3), np.concatenate([numbers(one, 3) for one in one_by_one]), atol=1e-4
    )


def test_places_are_in_the_text_as_it_was_given(simplex: Simplex) -> None:
    text = "  a1   日本 a2\n😀 a3"
    found = simplex.project(text)
    assert found["token"].tolist() == ["", "a1", "", "a2", "", "a3"]
    spelled = [text[s:e] for s, e in found[["start", "end"]].dropna().itertuples(index=False)]
    assert spelled == ["a1", "日本", "a2", "😀", "a3"]
    # What the toy does not know is a special token to it, which never counts.
    assert found["counted"].tolist() == [False, True, False, True, False, True]


def test_pieces_of_characters_have_the_place_of_the_whole_one(
    simplex: Simplex, tmp_path: Path
) -> None:
    tokenizer = small_tokenizer("byte_level")
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=3, n_head=4, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    settings = {**simplex.provenance.settings, "model": str(tmp_path)}
    moved = simplex.provenance.model_copy(update={"settings": settings})
    study = Study.model_validate(settings)
    moved = moved.model_copy(update={"model_files": input_hashes(study, "model")})
    other = Simplex(moved, simplex._cluster, simplex._model, simplex._sae)
    text = "the 😀 cat"
    found = other.project(text)
    pieces = found[found["token"].str.contains("\ufffd")]
    assert len(pieces) == 4
    assert {text[s:e] for s, e in pieces[["start", "end"]].itertuples(index=False)} == {"😀"}
    ordinary = found[found["counted"] & ~found["token"].str.contains("\ufffd")]
    spelled = [text[s:e] for s, e in ordinary[["start", "end"]].itertuples(index=False)]
    assert spelled == ordinary["token"].tolist()


def test_a_text_without_an_active_token_has_none(simplex: Simplex) -> None:
    silent = silent_text(simplex)
    assert not simplex.project(silent)["active"].any()
    with pytest.raises(ValueError, match="cluster 0 is active at no token of the text"):
        simplex.steer(silent, 0)


def test_steering_runs_the_upper_layers_on_the_edited_stream(simplex: Simplex, text: str) -> None:
    placed = simplex.project(text)
    last = int(np.flatnonzero(placed["active"])[-1])
    found = simplex.steer(text, 1, 0.7)
    # The toy's SAE reads the stream after the last layer: above it are a norm and the head.
    model: Any = AutoModelForCausalLM.from_pretrained(simplex._reader._study.model_source)
    (chunk,) = simplex._reader.chunks([text])
    seen: list[torch.Tensor] = []
    model.transformer.h[-1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        before = model(torch.from_numpy(chunk.ids)[None]).logits[0, last].softmax(-1)
        stream = (seen[0] if isinstance(seen[0], torch.Tensor) else seen[0][0])[0]
        codes = simplex._sae.encode(stream[last : last + 1])[:, simplex._cluster.latents]
        written = (codes @ simplex._sae.W_dec[simplex._cluster.latents])[0]
        step = 0.7 * (torch.from_numpy(simplex.vertices[1]).float() - written)
        edited = model.lm_head(model.transformer.ln_f(stream[last] + step)).softmax(-1)
    names = simplex._reader.vocabulary
    by_token = found.set_index("token").loc[names]
    np.testing.assert_allclose(by_token["before"], before, atol=1e-4)
    np.testing.assert_allclose(by_token["after"], edited, atol=2e-3)
    assert found["change"].abs().max() > 0.05
    assert found["change"].abs().is_monotonic_decreasing
    np.testing.assert_allclose(found["change"], found["after"] - found["before"], atol=1e-7)
    assert found["random_change"].abs().max() > 0
    pd.testing.assert_frame_equal(found, simplex.steer(text, 1, 0.7))
    assert simplex.steer(text, 1, 0.0)["change"].abs().max() < 1e-6


def test_an_edit_runs_the_lower_layers_once_per_text(
    simplex: Simplex, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, runs = simplex._reader, []
    expected = simplex.steer(text, 1)
    plain, residuals = reader.upper.residual, reader._residuals
    monkeypatch.setattr(reader.upper, "residual", lambda ids: runs.append("again") or plain(ids))
    monkeypatch.setattr(reader, "_residuals", lambda all: runs.append("once") or residuals(all))
    reader._last = None
    simplex.project(text)
    pd.testing.assert_frame_equal(simplex.steer(text, 1), expected)
    simplex.put(text, (1, 0, 0))
    assert runs == ["once"]
    # Another text is another one.
    short = text.rsplit(" ", 2)[0]
    assert len(simplex.project(short)) < len(simplex.project(text))
    assert runs == ["once"] * 3


def test_a_point_that_is_dragged_runs_the_tokens_before_it_once(
    simplex: Simplex, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper, runs = simplex._reader.upper, []
    plain = upper.before_edits
    monkeypatch.setattr(upper, "before_edits", lambda *all: runs.append(all) or plain(*all))
    short = text.rsplit(" ", 2)[0]
    expected = simplex.put(short, (1, 0, 0))
    simplex.put(text, (1, 0, 0))
    runs.clear()
    for coordinates in ((0, 1, 0), (0, 0.5, 0.5), (0, 0, 1)):
        simplex.put(text, coordinates)
    assert not runs
    # Another text is another one, and what was kept of the first is not used for it.
    pd.testing.assert_frame_equal(simplex.put(short, (1, 0, 0)), expected)
    assert len(runs) == 1


def test_a_token_put_at_a_vertex_is_one_that_was_steered_there(simplex: Simplex, text: str) -> None:
    steered = simplex.steer(text, 2).set_index("token")
    there = simplex.put(text, (0, 0, 1)).set_index("token").loc[steered.index]
    np.testing.assert_allclose(there["after"], steered["after"], atol=1e-6)


def test_a_file_of_a_simplex_needs_no_study(
    simplex: Simplex, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, again = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    simplex.save(file)
    loaded = Simplex.load(file)
    loaded.save(again)
    assert file.read_bytes() == again.read_bytes()
    np.testing.assert_array_equal(loaded.vertices, simplex.vertices)
    pd.testing.assert_frame_equal(loaded.project(text), simplex.project(text))
    pd.testing.assert_frame_equal(loaded.steer(text, 1), simplex.steer(text, 1))
    with safe_open(file, "numpy") as opened:
        said = json.loads(opened.metadata()["simplex"])
    assert (said["study"], said["n_clusters_total"], said["cluster_id"], said["k"]) == (
        "small", 7, 0, 3,
    )  # fmt: skip
    assert said["hook"] == "blocks.2.hook_resid_post"
    assert set(said["contents"]) == {
        "clustering [n_clusters 7]", "cluster_rows [n_clusters 7]", "refit_models [n_clusters 7]",
    }  # fmt: skip
    # Elsewhere there is neither the study nor its model.
    stream = 5 * np.random.default_rng(0).standard_normal((300, 64))
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    elsewhere = Simplex.load(file)
    found = elsewhere.project_residual(stream)
    assert 0 < found["active"].sum() < 300
    pd.testing.assert_frame_equal(found, simplex.project_residual(stream))
    with pytest.raises(ValueError, match=r"cannot be used: config.json is not there; set AANET"):
        elsewhere.project(text)


def test_the_residual_stream_alone_gives_the_same_as_the_text(simplex: Simplex, text: str) -> None:
    (residual,) = simplex._reader.read(text).residuals
    stream = simplex._reader.as_sae_reads(residual)
    found, expected = simplex.project_residual(stream), simplex.project(text)
    pd.testing.assert_frame_equal(found[1:], expected[found.columns][1:])
    with pytest.raises(ValueError, match=re.escape("shape (3, 5); it must be (tokens, 64)")):
        simplex.project_residual(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        simplex.project_residual(np.full((3, 64), np.nan))


def test_a_file_that_is_none_of_a_simplex_is_refused(simplex: Simplex, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        Simplex.load(tmp_path / "nothing")
    other = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(3)}, other)
    file, half = tmp_path / "one.safetensors", tmp_path / "half.safetensors"
    simplex.save(file)
    half.write_bytes(file.read_bytes()[:-100])
    less = tmp_path / "less.safetensors"
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    tensors.pop("aanet.encoder_layers.0.bias")
    save_file(tensors, less, metadata)
    for wrong in (other, half, less):
        with pytest.raises(ValueError, match="is no whole file of a simplex"):
            Simplex.load(wrong)


def test_a_model_whose_files_have_changed_is_refused(simplex: Simplex, text: str) -> None:
    files = {**simplex.provenance.model_files, "config.json": "0"}
    other = simplex.provenance.model_copy(update={"model_files": files})
    with pytest.raises(ValueError, match="its files are others than then"):
        Simplex(other, simplex._cluster, simplex._model, simplex._sae).project(text)


def test_what_a_gpu_made_is_read_without_one(simplex: Simplex, text: str) -> None:
    settings = {**simplex.provenance.settings, "device": "cuda"}
    there = simplex.provenance.model_copy(update={"settings": settings})
    found = Simplex(there, simplex._cluster, simplex._model, simplex._sae).project(text)
    np.testing.assert_allclose(numbers(found, 3), numbers(simplex.project(text), 3), atol=1e-3)


def test_the_nearest_samples_come_first(finished: Finished, simplex: Simplex) -> None:
    samples = read(finished.study, vertex_samples.at(n=N), VERTEX_SAMPLES)
    own = samples[(samples["cluster_id"] == 0) & (samples["vertex_id"] == 1)]
    found = simplex.nearest(1, 4)
    least = sorted(min(each) for each in own["distances_to_vertex"])[:4]
    assert found["distance"].tolist() == least
    assert set(found["vertex_id"]) == {1}
    assert found["full_text"].str.len().gt(0).all()


def test_wrong_vertices_strengths_and_texts_are_refused(simplex: Simplex, text: str) -> None:
    for wrong in (lambda: simplex.steer(text, 3), lambda: simplex.nearest(-1)):
        with pytest.raises(ValueError, match="at k=3 has the vertices 0 to 2"):
            wrong()
    with pytest.raises(ValueError, match="strength is nan"):
        simplex.steer(text, 0, np.nan)
    with pytest.raises(ValueError, match=re.escape("they must be 3 numbers that sum to 1")):
        simplex.put(text, (1, 1, 0))
    with pytest.raises(ValueError, match="the text has no token"):
        simplex.project("")
    with pytest.raises(ValueError, match="text 1 has no token"):
        simplex.project([text, " "])
    with pytest.raises(ValueError, match="no text is given"):
        simplex.project([])
