"""Exported networks and stored stacks against what was trained."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.evaluation import subspace_network
from aanet_assets.science.aanet.export import (
    load_aanet,
    load_stack,
    save_pt,
    save_stack,
    state_dict,
)
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.science.aanet.planted import heldout_of, planted_cluster, train_clusters

SETTINGS = AANetSettings(max_steps=20, batch_size=64, simplex_scale=1.5, widths=(20, 10))
NAMES = [
    f"{part}_layers.{i}.{kind}"
    for part in ("encoder", "decoder")
    for i in range(3)
    for kind in ("weight", "bias")
]


@pytest.fixture(scope="module")
def clusters():
    few = planted_cluster(2, n_train=5, n_heldout=0)
    return [planted_cluster(1), few, planted_cluster(3, n_extrema=2, n_heldout=0, rank=9)]


@pytest.fixture(scope="module")
def models(clusters):
    return train_clusters(clusters, 4, SETTINGS, [0, 1, 2])


def test_exported_network_equals_the_one_in_the_subspace(clusters, models, tmp_path):
    for cluster, model in ((clusters[0], models[0]), (clusters[2], models[2])):
        path = tmp_path / "aanet.pt"
        save_pt(path, state_dict(model, cluster.basis))
        full, reduced = load_aanet(path, 1.5), subspace_network(model.weights, 4, SETTINGS)
        assert list(torch.load(path, weights_only=True)) == NAMES
        assert full.encoder_layers[0].weight.shape == (20, 48)
        z, basis = torch.from_numpy(cluster.train), torch.from_numpy(cluster.basis)
        x = z @ basis.T
        assert_close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
        assert_close(full.embed(x), reduced.embed(z))
        assert_close(full.barycentric(x), reduced.barycentric(z))
        assert_close(full(x), reduced(z) @ basis.T)


def test_pt_bytes_do_not_depend_on_the_files_name(clusters, models, tmp_path):
    paths = [tmp_path / "one.pt", tmp_path / "deeper" / "another_name.pt"]
    for path in paths:
        save_pt(path, state_dict(models[0], clusters[0].basis))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_stack_that_was_read_back_gives_the_same_pt_bytes(clusters, models, tmp_path):
    save_stack(tmp_path / "stack", models)
    loaded = load_stack(tmp_path / "stack")
    paths = [tmp_path / "trained.pt", tmp_path / "read.pt"]
    for path, (model, *_) in zip(paths, (models, loaded), strict=True):
        save_pt(path, state_dict(model, clusters[0].basis))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_stack_round_trip_and_bytes(models, tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        save_stack(path, models)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    loaded = load_stack(paths[0])
    assert len(loaded) == len(models)
    for a, b in zip(models, loaded, strict=True):
        for field in ("cluster_id", "k", "status", "reason", "n_rows", "steps"):
            assert getattr(a, field) == getattr(b, field)
        for field in ("losses", "heldout"):
            expected = getattr(a, field)
            found = getattr(b, field)
            assert found == (expected and pytest.approx(expected, nan_ok=True, abs=0, rel=0))
        for name, array in a.weights.items():
            np.testing.assert_array_equal(b.weights[name], array)
        assert set(b.weights) == set(a.weights)


def test_numbers_that_are_not_finite_come_back_as_nan(models, tmp_path):
    heldout = {**models[0].heldout, "loss": float("inf"), "explained_variance": float("nan")}
    save_stack(tmp_path / "a", [dataclasses.replace(models[0], heldout=heldout)])
    found = heldout_of(load_stack(tmp_path / "a")[0])
    assert np.isnan([found["loss"], found["explained_variance"]]).all()
    assert found["recon_loss"] == heldout["recon_loss"]


def test_model_without_weights_is_not_exported(clusters, models):
    with pytest.raises(ValueError, match=r"cluster 2 at k=4 has no weights.*insufficient_samples"):
        state_dict(models[1], clusters[1].basis)


def test_missing_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        load_aanet(tmp_path / "nothing.pt")
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        load_stack(tmp_path / "nothing.safetensors")
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="foreign is not an AANet"):
        load_aanet(foreign)
    with pytest.raises(ValueError, match="foreign does not hold a stack"):
        load_stack(foreign)
    torch.save({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(ValueError, match="foreign is not an AANet"):
        load_aanet(foreign)
