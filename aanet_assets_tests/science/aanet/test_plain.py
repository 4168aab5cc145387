"""The engine against plain PyTorch: step by step in the subspace, and in the end at full width."""

import dataclasses
import math
import threading
from collections.abc import Iterator
from statistics import median

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet.batches import Layout, StackBatches
from aanet_assets.science.aanet.data import LOSSES, ClusterRows, Task
from aanet_assets.science.aanet.linear_start import start_of
from aanet_assets.science.aanet.parameters import FIRST, LAST, corner, parameter_shapes
from aanet_assets.science.aanet.reference import AANet, Trainer, barycentric
from aanet_assets.science.aanet.stack import Stack
from aanet_assets.study.progress import Progress
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.science.aanet.planted import heldout_of, planted_cluster, train_clusters

D_MODEL, K, STEPS, BATCH = 128, 3, 30, 64
LAYOUT = Layout(rank=16, k=4, rows=BATCH)
# Gradients are clipped at some steps and not at others, and plateaus lie within the steps.
SETTINGS = AANetSettings(
    schedule="plateau", max_steps=STEPS, smoothing_window=14, batch_size=BATCH, clip_norm=0.3,
    lr=0.01, beta2=0.97, extrema_fade=1.5, start_pull=4.0, plateau_patience=1, weight_decay=0.01,
    recon_weight=1.5, simplex_scale=1.3,
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


class Plain:
    """One AANet in its subspace, by autograd, with Adam as `optimiser.py` describes it."""

    def __init__(self, rank: int, start: dict[str, torch.Tensor], pull: float):
        self.model = AANet(rank, K, SETTINGS.widths, SETTINGS.simplex_scale)
        self.model.load_state_dict(start)
        self.start, self.pull = start, pull
        self.moments = {
            name: (torch.zeros_like(own), torch.zeros_like(own))
            for name, own in self.model.named_parameters()
        }
        # torch's own schedule wants an optimiser, of which it only changes the rate.
        self.rate = torch.optim.SGD(self.model.parameters(), lr=SETTINGS.lr)
        self.plateaus = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.rate,
            factor=SETTINGS.plateau_factor,
            patience=SETTINGS.plateau_patience,
            min_lr=SETTINGS.min_lr,
        )

    @property
    def lr(self) -> float:
        return self.rate.param_groups[0]["lr"]

    def step(self, z: torch.Tensor, noise: torch.Tensor, number: int) -> list[float]:
        """Step `number`, from 1; the four losses before it."""
        points = self.model.embed(z)
        coordinates = barycentric(points, self.model.vertices)
        output = self.model.decode(points + noise)
        recon = (output - z).square().sum() / (len(z) * D_MODEL)
        archetypal = coordinates.clamp(max=0).sum(1).square().mean()
        extrema = (coordinates[:K] - torch.eye(K)).square().mean()
        total = (
            SETTINGS.recon_weight * recon
            + SETTINGS.archetypal_weight * archetypal
            + SETTINGS.extrema_weight * (1 - (number - 1) / STEPS) ** 1.5 * extrema
        )
        self.model.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), SETTINGS.clip_norm)
        axes = {FIRST: 1, LAST[0]: 0, LAST[1]: 0}
        with torch.no_grad():
            for name, own in self.model.named_parameters():
                assert own.grad is not None
                gradient = own.grad + SETTINGS.weight_decay * own
                square = gradient.square()
                if name in axes:
                    square = square.sum(axes[name], keepdim=True) * math.pi / (2 * D_MODEL)
                mean, second = self.moments[name]
                mean.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.97).add_(0.03 * square)
                own -= self.lr * self.pull * (own - self.start[name])
                root = (second / (1 - 0.97**number)).sqrt() + 1e-8
                own -= self.lr * mean / (1 - 0.9**number) / root
        self.plateaus.step(total.item())
        return [total.item(), recon.item(), archetypal.item(), extrema.item()]


def own_parameters(stack: Stack, clusters: list[ClusterRows]) -> Iterator[dict[str, torch.Tensor]]:
    """The parameters of each model, as they are now."""
    for slot, cluster in enumerate(clusters):
        shapes = parameter_shapes(cluster.basis.shape[1], K, SETTINGS.widths)
        by_name = stack.adam.parameters_by_name
        yield {name: by_name[name][slot][corner(own)].clone() for name, own in shapes.items()}


@pytest.mark.usefixtures("double")
def test_every_step_is_that_of_autograd_in_the_subspace(clusters: list[ClusterRows]) -> None:
    """Same start, rows and noise; losses of 30 steps, and what is trained in the end."""
    tasks = tasks_of(clusters)
    begun = [start_of(tasks[0], SETTINGS), "for a test"]
    stack = Stack(tasks, begun, len(tasks), LAYOUT, SETTINGS, "cpu")
    starts = list(own_parameters(stack, clusters))
    interval = stack.stopping.interval
    results = stack.train(Progress(1, "steps", "test"), threading.Event())
    batches = StackBatches(2, max(len(c.train) for c in clusters), LAYOUT, SETTINGS, "cpu")
    for slot, task in enumerate(tasks_of(clusters)):
        batches.start(slot, task)
    drawn = [batches.draw(interval) for _ in range(STEPS // interval)]
    places, noise = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    lowered = []
    for i, (cluster, result) in enumerate(zip(clusters, results, strict=True)):
        rank = cluster.basis.shape[1]
        plain = Plain(rank, starts[i], pull=0.0 if i else 4.0)
        here = [*range(K), *range(LAYOUT.k, LAYOUT.k + min(BATCH, len(cluster.train)))]
        expected = [
            plain.step(
                batches.table[places[step, i, here], :rank], noise[step, i, here, : K - 1], step + 1
            )
            for step in range(result.steps)
        ]
        lowered.append(plain.lr < SETTINGS.lr)
        found = np.stack([result.history[name] for name in LOSSES], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
        for name, own in plain.model.state_dict().items():
            np.testing.assert_allclose(result.weights[name], own.numpy(), rtol=1e-6, atol=1e-10)
    assert any(lowered), "the plateau schedule had nothing to do"


def test_a_model_goes_on_when_its_neighbour_leaves() -> None:
    """The neighbour's loss overflows; it leaves the stack after the first 15 steps."""
    good, other = (planted_cluster(i, rank=5, d_model=D_MODEL, seed=i) for i in range(2))
    huge = dataclasses.replace(other, train=other.train * np.float32(1e25))
    settings = AANetSettings(max_steps=30, batch_size=64)
    failed, found = train_clusters([huge, good], 3, settings, [1, 2])
    alone = train_clusters([good], 3, settings, [2])[0]
    assert (failed.status, failed.weights) == ("failed", {})
    assert found.steps == 30
    for name in LOSSES:
        np.testing.assert_allclose(found.history[name], alone.history[name], rtol=1e-3, atol=1e-7)
    assert found.heldout == pytest.approx(alone.heldout, rel=1e-3)


@pytest.mark.slow
def test_held_out_rows_are_reconstructed_as_well_as_by_plain_training() -> None:
    """Per cluster and k: medians over seeds, and how far apart the seeds of plain training are."""
    seeds, d_model = range(4), 256
    # From random starts: what is compared is the rule of the steps.
    settings = AANetSettings(
        start="random", lr=0.0025, warm_up=0, beta2=0.999, extrema_fade=0, batch_size=512,
        max_steps=900,
    )  # fmt: skip
    clusters = [
        planted_cluster(i, corners, rank, 800, 200, d_model, seed=20 + i)
        for i, (corners, rank) in enumerate([(3, 4), (4, 10), (5, 20)])
    ]
    ratios, within = [], []
    print("\ncorners rank k |   plain: least    median      most |    engine | log2 engine/plain")
    for k in (2, 3, 4, 5):
        for corners, cluster in enumerate(clusters, start=3):
            trainers = [Trainer(cluster, k, settings, seed) for seed in seeds]
            for trainer in trainers:
                trainer.run()
            plain = np.array([trainer.heldout_recon() for trainer in trainers])
            models = train_clusters([cluster] * len(seeds), k, settings, [*seeds])
            engine = float(np.median([heldout_of(model)["recon_loss"] for model in models]))
            ratios.append(float(np.log2(engine / np.median(plain))))
            within.append(bool(plain.min() <= engine <= plain.max()))
            print(
                f"{corners:7d} {cluster.basis.shape[1]:4d} {k} | {plain.min():14.3e} "
                f"{np.median(plain):9.3e} {plain.max():9.3e} | {engine:9.3e} | "
                f"{ratios[-1]:+.3f}{'' if within[-1] else '  outside'}"
            )
    print(f"median log2 ratio {median(ratios):+.3f}, {sum(within)} of {len(within)} within")
    assert abs(median(ratios)) < 0.15
    assert np.mean(within) > 0.5
