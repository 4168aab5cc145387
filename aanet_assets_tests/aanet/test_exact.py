"""The mode `exact` against plain training at full width, and the mode `span` against `exact`."""

import dataclasses
import math
import threading
from statistics import median

import numpy as np
import pytest
import torch

from aanet_assets.aanet.batches import Layout, StackBatches
from aanet_assets.aanet.data import LOSSES, ClusterRows, Task
from aanet_assets.aanet.export import load_aanet, load_stack, save_pt, save_stack, state_dict
from aanet_assets.aanet.parameters import LAST, corner, initial_parameters, parameter_shapes
from aanet_assets.aanet.reference import AANet, Trainer
from aanet_assets.aanet.stack import Stack
from aanet_assets.study.progress import Progress
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.aanet.planted import heldout_of, planted_cluster, train_clusters
from aanet_assets_tests.aanet.test_objective import plain_losses

D_MODEL, K, STEPS, BATCH = 128, 3, 20, 64
LAYOUT = Layout(rank=16, k=4, rows=BATCH)
# Gradients are clipped at some steps and not at others, and plateaus lie within the steps.
EXACT = AANetSettings(
    mode="exact", schedule="plateau", max_steps=STEPS, smoothing_window=14, batch_size=BATCH,
    clip_norm=0.3, lr=0.01, plateau_patience=1, weight_decay=0.01, recon_weight=1.5,
    simplex_scale=1.3,
)  # fmt: skip
SEEDS = [3, 4]


@pytest.fixture(scope="module")
def clusters() -> list[ClusterRows]:
    """Of different ranks, and one with less than a batch of rows."""
    return [
        planted_cluster(0, d_model=D_MODEL),
        planted_cluster(1, d_model=D_MODEL, rank=11, n_train=40, seed=9),
    ]


def tasks_of(clusters: list[ClusterRows]) -> list[Task]:
    return [Task(rows, K, seed) for rows, seed in zip(clusters, SEEDS, strict=True)]


def exact_stack(clusters: list[ClusterRows], settings: AANetSettings) -> Stack:
    return Stack(tasks_of(clusters), len(clusters), LAYOUT, settings, "cpu")


def full_width_states(stack: Stack) -> list[dict[str, torch.Tensor]]:
    """The parameters the engine trains, as they are now."""
    by_name = stack.adam.parameters_by_name
    own = parameter_shapes(D_MODEL, K, EXACT.widths)
    return [
        {name: by_name[name][i][corner(shape)].clone() for name, shape in own.items()}
        for i in range(len(SEEDS))
    ]


@pytest.fixture(scope="module")
def trained(clusters):
    """What `train` returns, in the engine's own single precision."""
    return train(clusters)


def train(clusters: list[ClusterRows]):
    """The stack's starts, its full-width parameters after the last step, and its results."""
    stack = exact_stack(clusters, EXACT)
    starts, last = full_width_states(stack), []
    keep = stack.adam.keep
    stack.adam.keep = lambda slots: (last.extend(full_width_states(stack)), keep(slots))[1]
    with torch.no_grad():
        results = stack.train(Progress(1, "steps", "test"), threading.Event())
    return starts, last, results


@pytest.mark.usefixtures("double")
def test_losses_are_those_of_the_plain_network_step_by_step(clusters):
    """Same start, rows and noise, over the first 20 steps."""
    starts, _, results = train(clusters)
    batches = StackBatches(2, max(len(c.train) for c in clusters), LAYOUT, EXACT, "cpu")
    for slot, task in enumerate(tasks_of(clusters)):
        batches.start(slot, task)
    interval = exact_stack(clusters, EXACT).stopping.interval
    drawn = [batches.draw(interval) for _ in range(STEPS // interval)]
    places, noise = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    lowered = []
    for i, cluster in enumerate(clusters):
        plain = Trainer(cluster, K, EXACT, seed=0)
        plain.model.load_state_dict(starts[i])
        basis = torch.from_numpy(cluster.basis).double()
        here = [*range(K), *range(LAYOUT.k, LAYOUT.k + min(BATCH, len(cluster.train)))]
        expected = []
        for step in range(STEPS):
            z = batches.table[places[step, i, here], : basis.shape[1]]
            expected.append(plain.step(z @ basis.T, noise[step, i, here, : K - 1]))
        lowered.append(plain.adam.param_groups[0]["lr"] < EXACT.lr)
        found = np.stack([results[i].history[name] for name in LOSSES], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
    assert any(lowered), "the plateau schedule had nothing to do"


def test_start_is_that_of_linear_layers_at_full_width():
    start = initial_parameters(None, 600, 5, (80, 60), torch.Generator().manual_seed(0))
    network = AANet(600, 5, (80, 60))
    network.load_state_dict(start)
    for layer in (*network.encoder_layers, *network.decoder_layers):
        assert isinstance(layer, torch.nn.Linear)
        limit = 1 / math.sqrt(layer.in_features)
        for values in (layer.weight.detach(), layer.bias.detach()):
            spread = 4 / math.sqrt(values.numel())
            assert values.abs().max() <= limit
            assert float(values.std()) == pytest.approx(limit / math.sqrt(3), rel=spread)
            assert abs(float(values.mean())) < spread * limit


@torch.no_grad()
def test_exported_network_is_the_trained_one_on_the_clusters_rows(clusters, trained, tmp_path):
    """Through the stack's file and the .pt file; the plain network is the raw parameters."""
    _, last, results = trained
    save_stack(tmp_path / "stack.safetensors", results)
    loaded = load_stack(tmp_path / "stack.safetensors")
    for i, cluster in enumerate(clusters):
        save_pt(tmp_path / "aanet.pt", state_dict(loaded[i], cluster.basis))
        exported = load_aanet(tmp_path / "aanet.pt", EXACT.simplex_scale)
        plain = AANet(D_MODEL, K, EXACT.widths, EXACT.simplex_scale)
        plain.load_state_dict(last[i])
        x = torch.from_numpy(cluster.heldout @ cluster.basis.T)
        for part in (AANet.embed, AANet.barycentric, AANet.forward):
            torch.testing.assert_close(part(exported, x), part(plain, x), atol=1e-5, rtol=1e-5)
        basis = torch.from_numpy(cluster.basis)
        outside = plain(x) - plain(x) @ basis @ basis.T
        assert outside.square().mean() > 1e-5, "this test needs an output that leaves the subspace"
        for name in LAST:
            torch.testing.assert_close(exported.state_dict()[name], last[i][name])


@torch.no_grad()
def test_heldout_metrics_count_the_output_outside_the_subspace(clusters, trained):
    _, last, results = trained
    for cluster, state, result in zip(clusters, last, results, strict=True):
        network = AANet(D_MODEL, K, EXACT.widths, EXACT.simplex_scale)
        network.load_state_dict(state)
        x = torch.from_numpy(cluster.heldout @ cluster.basis.T)
        total, recon, archetypal, _ = plain_losses(network, x, 0.0, 0, EXACT)
        mean = torch.from_numpy(cluster.train @ cluster.basis.T).mean(0)
        expected = {
            "loss": float(total),
            "recon_loss": float(recon),
            "archetypal_loss": float(archetypal),
            "explained_variance": float(
                1 - (network(x) - x).square().sum() / (x - mean).square().sum()
            ),
            "in_simplex": float((network.barycentric(x) >= 0).all(1).float().mean()),
        }
        assert result.heldout == pytest.approx(expected, rel=1e-4)


def test_a_model_goes_on_when_its_neighbour_leaves():
    """The neighbour's loss overflows; it leaves the stack after the first 15 steps."""
    good, other = (planted_cluster(i, rank=5, d_model=D_MODEL, seed=i) for i in range(2))
    huge = dataclasses.replace(other, train=other.train * np.float32(1e25))
    settings = AANetSettings(mode="exact", max_steps=30, batch_size=64)
    failed, found = train_clusters([huge, good], 3, settings, [1, 2])
    alone = train_clusters([good], 3, settings, [2])[0]
    assert (failed.status, failed.weights, failed.outside) == ("failed", {}, {})
    assert found.steps == 30
    for name in LOSSES:
        np.testing.assert_allclose(found.history[name], alone.history[name], rtol=1e-3, atol=1e-7)
    assert found.heldout == pytest.approx(alone.heldout, rel=1e-3)


@pytest.mark.slow
def test_span_reconstructs_held_out_rows_as_well_as_exact():
    """Per cluster and k: medians over seeds, and how far apart the seeds of exact are."""
    seeds, d_model = range(6), 256
    clusters = [
        planted_cluster(i, corners, rank, 800, 200, d_model, seed=20 + i)
        for i, (corners, rank) in enumerate([(3, 4), (4, 10), (5, 20)])
    ]
    ratios, within = [], []
    print("\ncorners rank k |   exact: least    median      most |      span | log2 span/exact")
    for k in (2, 3, 4, 5):
        recon = {}
        for mode in ("exact", "span"):
            settings = AANetSettings(mode=mode)
            repeated = [c for c in clusters for _ in seeds]
            models = train_clusters(repeated, k, settings, [*seeds] * len(clusters))
            losses = [heldout_of(m)["recon_loss"] for m in models]
            recon[mode] = np.reshape(losses, (len(clusters), len(seeds)))
        for i, (exact, span) in enumerate(zip(recon["exact"], recon["span"], strict=True)):
            ratios.append(float(np.log2(np.median(span) / np.median(exact))))
            within.append(bool(exact.min() <= np.median(span) <= exact.max()))
            print(
                f"{i + 3:7d} {clusters[i].basis.shape[1]:4d} {k} | {exact.min():14.3e} "
                f"{np.median(exact):9.3e} {exact.max():9.3e} | {np.median(span):9.3e} | "
                f"{ratios[-1]:+.3f}{'' if within[-1] else '  outside'}"
            )
    print(f"median log2 ratio {median(ratios):+.3f}, {sum(within)} of {len(within)} within")
    assert abs(median(ratios)) < 0.15
    assert np.mean(within) > 0.5
