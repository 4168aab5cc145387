"""The shipped toys: small, loadable, close to the best possible, and recoverable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import SAE
from scipy.sparse import csr_matrix
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from aanet_assets.defs.toy_product import study as toy_product
from aanet_assets.science.activations.effects import prediction_slopes
from aanet_assets.science.activations.sae import hook_of
from aanet_assets.science.activations.sae_training import sae_quality
from aanet_assets.science.clustering.cooccurrence import cooccurrence
from aanet_assets.science.clustering.methods import cluster_latents, label_latents
from aanet_assets.science.toy.process import PRODUCT5, UNION7, UNION22
from aanet_assets.science.toy.recovery import recover, summary
from aanet_assets.science.toy.transformer import quality, residuals, with_bos
from aanet_assets.study.settings import ClusteringSettings

SHIPPED = Path(__file__).parents[3] / "data" / "inputs" / "toy"


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(SHIPPED / "model")


@pytest.fixture(scope="module")
def sae():
    return SAE.load_from_disk(SHIPPED / "sae")


def test_it_is_small():
    assert sum(f.stat().st_size for f in SHIPPED.rglob("*") if f.is_file()) < 2_000_000


def test_its_transformer_predicts_nearly_as_well_as_possible(model):
    found = quality(model, UNION7, UNION7.sample(2_000, 16, seed=77))
    assert 0 <= found.loss - found.bayes_loss < 0.002
    assert 0 <= found.bayes_top1 - found.top1 < 0.002


def test_its_clusters_are_the_components(model, sae):
    letters = [UNION7.sample(n, 16, seed=n) for n in (4_000, 2_000)]
    activations = [residuals(model, UNION7, part, layer=2) for part in letters]
    how_good = sae_quality(sae, activations[1])
    assert how_good.explained_variance > 0.98
    assert how_good.dead_latents == 0
    with torch.no_grad():
        codes = [csr_matrix(sae.encode(part).numpy()) for part in activations]
    labels = cluster_latents(
        sae.W_dec.detach().numpy(),
        np.ones(32, dtype=bool),
        7,
        ClusteringSettings(method="spectral_cooccurrence"),
        cooccurrence([codes[0]], 1e-6, "phi"),
    )
    no_elbows = pd.DataFrame(
        columns=["cluster_id", "aanet_recon_loss_elbow_k", "aanet_archetypal_loss_elbow_k"]
    )
    codes_of = [lambda latents, own=own: own[:, latents] for own in codes]
    table = recover(
        UNION7.targets(letters[0]), codes_of[0], UNION7.targets(letters[1]), codes_of[1], labels,
        no_elbows, lambda c, k: None,
    )  # fmt: skip
    assert sorted(table["cluster_id"]) == list(range(7))
    assert summary(table)["mean_r2"] > 0.93
    assert summary(table)["max_leak"] < 0.10


def test_the_large_toy_is_as_good():
    folder = SHIPPED.parent / "toy_large"
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 4_000_000
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert isinstance(model, GPT2LMHeadModel)
    letters = UNION22.sample(1_000, 16, seed=77)
    found = quality(model, UNION22, letters)
    assert 0 <= found.loss - found.bayes_loss < 0.002
    sae = SAE.load_from_disk(folder / "sae")
    assert sae_quality(sae, residuals(model, UNION22, letters, layer=2)).explained_variance > 0.98


def test_what_latents_do_tells_the_parts_of_the_product_apart():
    folder = SHIPPED.parent / "toy_product"
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 1_000_000
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert isinstance(model, GPT2LMHeadModel)
    letters = [PRODUCT5.sample(n, 16, seed=n) for n in (3_000, 1_500)]
    found = quality(model, PRODUCT5, letters[1])
    assert 0 <= found.loss - found.bayes_loss < 0.003
    sae = SAE.load_from_disk(folder / "sae")
    with torch.no_grad():
        codes = [
            csr_matrix(sae.encode(residuals(model, PRODUCT5, part, 2)).numpy()) for part in letters
        ]
    tokens = with_bos(letters[0], PRODUCT5).numpy()[:125]
    special = np.zeros(tokens.shape, dtype=bool)
    special[:, 0] = True
    seen = prediction_slopes(toy_product, hook_of(sae), np.arange(435), tokens, special)
    decoder = sae.W_dec.detach().numpy()
    labels = label_latents(
        decoder,
        np.full(17, 0.3),
        lambda some: [codes[0][:, some]],
        5,
        toy_product.clustering,
        1e-6,
        decoder @ seen.slopes.T,
        seen.prediction,
    )
    no_elbows = pd.DataFrame(
        columns=["cluster_id", "aanet_recon_loss_elbow_k", "aanet_archetypal_loss_elbow_k"]
    )
    codes_of = [lambda latents, own=own: own[:, latents] for own in codes]
    table = recover(
        PRODUCT5.targets(letters[0]), codes_of[0], PRODUCT5.targets(letters[1]), codes_of[1],
        labels, no_elbows, lambda c, k: None,
    )  # fmt: skip
    assert table["r2"].min() > 0.9
    assert summary(table)["mean_r2"] > 0.95
    assert summary(table)["max_leak"] < 0.2
