"""Training of stacks: what it finds, what it reports, and that models do not meet."""

import dataclasses

import numpy as np
import pytest
import torch

from aanet_assets.science.aanet import train
from aanet_assets.science.aanet.batches import ModelBatches
from aanet_assets.science.aanet.data import LOSSES, ClusterRows, Task
from aanet_assets.science.aanet.evaluation import subspace_network
from aanet_assets.science.aanet.export import state_dict
from aanet_assets.science.aanet.reference import AANet
from aanet_assets.science.aanet.stack import Stack
from aanet_assets.science.aanet.train import train_aanets
from aanet_assets.study.settings import AANetSettings
from aanet_assets_tests.science.aanet.planted import (
    heldout_of,
    losses_of,
    planted_cluster,
    train_clusters,
)
from aanet_assets_tests.science.aanet.test_objective import plain_losses

SHORT = AANetSettings(max_steps=30, batch_size=64)


def with_rows(cluster: ClusterRows, **rows) -> ClusterRows:
    return dataclasses.replace(cluster, **rows)


def test_planted_triangle_needs_three_archetypes():
    cluster = planted_cluster(corners=3, n_train=1500)
    settings = AANetSettings(max_steps=500, batch_size=128)
    two, three, four = (train_clusters([cluster], k, settings, [1])[0] for k in (2, 3, 4))
    for results in ("losses", "heldout"):
        recon = [getattr(m, results)["recon_loss"] for m in (two, three, four)]
        assert recon[1] < 0.2 * recon[0]
        assert recon[2] > 0.3 * recon[1]
    assert heldout_of(three)["explained_variance"] > 0.95
    assert heldout_of(three)["in_simplex"] > 0.5
    network = subspace_network(three.weights, 3, settings)
    corners = network.barycentric(torch.from_numpy(cluster.extrema[:3])).detach()
    torch.testing.assert_close(corners, torch.eye(3), atol=0.15, rtol=0)


def test_training_loss_is_the_loss_of_the_exported_network():
    """Without noise and with all rows in a batch, step N + 1 sees the network after N steps."""
    cluster = planted_cluster(n_train=50)
    settings = AANetSettings(
        schedule="plateau", noise=0, batch_size=64, max_steps=30, extrema_fade=0
    )
    longer = settings.model_copy(update={"max_steps": 45})
    trained = train_clusters([cluster], 3, settings, [5])[0]
    history = train_clusters([cluster], 3, longer, [5])[0].history
    network = AANet(48, 3)
    network.load_state_dict(state_dict(trained, cluster.basis))
    z = np.concatenate([cluster.extrema[:3], cluster.train])
    losses = plain_losses(network, torch.from_numpy(z @ cluster.basis.T), 0.0, 3, settings)
    for name, loss in zip(LOSSES, losses.detach(), strict=True):
        assert history[name][30] == pytest.approx(float(loss), rel=1e-4)
        np.testing.assert_allclose(history[name][:30], trained.history[name], rtol=1e-4)


def test_result_does_not_depend_on_neighbours(monkeypatch):
    clusters = [planted_cluster(i, rank=3 + i, n_train=80 + 40 * i, seed=i) for i in range(4)]
    together = train_clusters(clusters, 3, SHORT, [10, 11, 12, 13])
    backwards = train_clusters(clusters[::-1], 3, SHORT, [13, 12, 11, 10])[::-1]
    monkeypatch.setattr(train, "ROWS_PER_STEP", 1)  # every model a stack of its own
    alone = train_clusters(clusters, 3, SHORT, [10, 11, 12, 13])
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert a.cluster_id == b.cluster_id == c.cluster_id
        for name in LOSSES:
            np.testing.assert_allclose(a.history[name], b.history[name], rtol=1e-3, atol=1e-7)
            np.testing.assert_allclose(a.history[name], c.history[name], rtol=1e-3, atol=1e-7)


def test_tasks_of_any_k_follow_one_another_in_the_slots(monkeypatch):
    """Seven tasks of three ks, two slots of one stack; each result as if it were alone."""
    settings = AANetSettings(
        schedule="plateau", max_steps=300, batch_size=64, stop_patience=30, stop_min_delta=0.03,
        start="random", lr=0.0025, extrema_fade=0,
    )  # fmt: skip
    tasks = [
        Task(planted_cluster(i, corners=2 + i % 3, n_train=90, seed=i), 2 + i % 3, 50 + i)
        for i in range(7)
    ]
    monkeypatch.setattr(train, "ROWS_PER_STEP", 2 * (4 + 64))
    groups = list(train._groups(tasks, range(7), settings, "cpu"))
    assert [(group.slots, len(group.members)) for group in groups] == [(2, 7)]
    together = train_aanets(tasks, settings)
    assert len({model.steps for model in together}) > 1
    for task, model in zip(tasks, together, strict=True):
        (alone,) = train_aanets([task], settings)
        assert (model.k, model.cluster_id) == (task.k, task.rows.cluster_id)
        steps = min(30, alone.steps, model.steps)
        for name in LOSSES:
            np.testing.assert_allclose(
                model.history[name][:steps], alone.history[name][:steps], rtol=1e-3, atol=1e-7
            )
        assert losses_of(model)["recon_loss"] == pytest.approx(
            losses_of(alone)["recon_loss"], rel=0.2
        )


def test_bytes_do_not_depend_on_the_number_of_workers(monkeypatch):
    tasks = [Task(planted_cluster(i, rank=3 + i % 9, seed=i), 3, i) for i in range(20)]
    found = []
    for workers in (1, 3):
        monkeypatch.setattr(train.joblib, "cpu_count", lambda workers=workers: workers)
        found.append(train_aanets(tasks, SHORT))
    for one, three in zip(*found, strict=True):
        assert one.losses == three.losses
        for name, weight in one.weights.items():
            np.testing.assert_array_equal(weight, three.weights[name])


def test_what_goes_wrong_in_one_stack_ends_the_others(monkeypatch):
    """At once, not when they are done: 100 million steps would take hours."""
    settings = AANetSettings(max_steps=100_000_000, batch_size=64, stop_patience=10**9)
    tasks = [Task(planted_cluster(i, rank=rank), 3, 0) for i, rank in enumerate((5, 15))]
    steps, run = [], Stack.run

    def interrupted(stack: Stack, n: int) -> np.ndarray:
        steps.append(n)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return run(stack, n)

    monkeypatch.setattr(Stack, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_aanets(tasks, settings)


def test_same_seed_same_model_other_seed_other_model():
    cluster = planted_cluster()
    first, beside, other = train_clusters([cluster] * 3, 3, SHORT, [1, 1, 2])
    again, *_ = train_clusters([cluster] * 3, 3, SHORT, [1, 1, 2])
    np.testing.assert_array_equal(first.history["loss"], again.history["loss"])
    # Another slot lies elsewhere in memory, which may round products otherwise.
    np.testing.assert_allclose(first.history["loss"], beside.history["loss"], rtol=1e-4)
    assert not np.allclose(first.history["loss"], other.history["loss"])


def test_every_cluster_has_a_result_and_bad_ones_disturb_nobody():
    good = planted_cluster(7)
    few = with_rows(good, cluster_id=1, train=good.train[:20], heldout=good.heldout[:11])
    empty = with_rows(good, cluster_id=2, train=good.train[:0], heldout=good.heldout[:0])
    nan = with_rows(
        good, cluster_id=3, train=np.where(good.train == good.train[3, 2], np.nan, good.train)
    )
    huge = with_rows(good, cluster_id=4, train=good.train * np.float32(1e25))
    held = with_rows(good, cluster_id=5, train=good.train[:0])
    no_rank = ClusterRows(6, *(x[:, :0] for x in (good.basis, good.train, good.train, good.train)))
    clusters = [few, good, empty, nan, huge, held, no_rank]
    seeds = [0, 1, 2, 3, 4, 5, 6]
    results = train_clusters(clusters, 3, SHORT, seeds)
    assert [r.cluster_id for r in results] == [1, 7, 2, 3, 4, 5, 6]
    assert [r.status for r in results] == [
        "insufficient_samples", "ok", "empty", "failed", "failed", "insufficient_samples", "failed"
    ]  # fmt: skip
    words = ["31 rows", "", "active at no token", "nan", "step 1", "held out", "rank 0"]
    for result, cluster, word in zip(results, clusters, words, strict=True):
        assert word in result.reason
        assert result.n_rows == len(cluster.train) + len(cluster.heldout)
        if result.status != "ok":
            assert result.losses is None
            assert result.heldout is None
            assert result.weights == {}
            assert result.steps == 0
    alone = train_clusters([good], 3, SHORT, [1])[0]
    assert alone.losses == pytest.approx(results[1].losses, rel=1e-3)


def test_training_that_blows_up_keeps_its_history_up_to_then():
    cluster = planted_cluster(n_train=200)
    late = cluster.train.copy()
    late[150] = 1e25  # finite, but its square is not; the first batches leave it out
    settings = SHORT.model_copy(update={"batch_size": 16})
    result = train_clusters([with_rows(cluster, train=late)], 3, settings, [3])[0]
    assert result.status == "failed"
    assert 0 < result.steps == len(result.history["loss"])
    assert np.isfinite(result.history["loss"]).all()
    assert f"not finite at step {result.steps + 1}" in result.reason


def test_more_archetypes_than_min_rows_asks_for_k_rows():
    cluster = with_rows(planted_cluster(), train=planted_cluster().train[:6])
    cluster = with_rows(cluster, heldout=cluster.heldout[:0])
    settings = SHORT.model_copy(update={"min_rows": 1})
    statuses = [train_clusters([cluster], k, settings, [0])[0].status for k in (6, 7)]
    assert statuses == ["ok", "insufficient_samples"]


def test_too_few_extrema_switch_their_loss_off():
    cluster = planted_cluster(n_extrema=3)
    three, four = (train_clusters([cluster], k, SHORT, [0])[0] for k in (3, 4))
    assert losses_of(three)["extrema_loss"] > 0
    assert np.isnan(losses_of(four)["extrema_loss"])
    off = 1.0 * four.history["recon_loss"] + 4.0 * four.history["archetypal_loss"]
    np.testing.assert_allclose(four.history["loss"], off, rtol=1e-5)


def test_losses_are_medians_of_the_last_window_and_the_history_is_whole():
    result = train_clusters([planted_cluster()], 3, SHORT, [0])[0]
    assert result.steps == 30 == len(result.history["loss"])
    for name in LOSSES:
        assert losses_of(result)[name] == pytest.approx(np.median(result.history[name][10:]))


def test_models_leave_the_stack_when_they_are_done():
    settings = AANetSettings(
        schedule="plateau", max_steps=2000, batch_size=64, stop_patience=20, stop_min_delta=1e-3,
        start="random", lr=0.0025,
    )  # fmt: skip
    clusters = [planted_cluster(i, corners=2 + i, n_train=100, seed=i) for i in range(3)]
    results = train_clusters(clusters, 3, settings, [0, 1, 2])
    steps = [r.steps for r in results]
    assert len(set(steps)) > 1
    assert all(s % 15 == 0 and s < 2000 for s in steps)
    alone = train_clusters(clusters[-1:], 3, settings, [2])[0]
    assert abs(alone.steps - steps[-1]) <= 300


@torch.no_grad()
def test_heldout_metrics_are_those_of_the_full_width_network():
    cluster = planted_cluster(corners=4)
    result = train_clusters([cluster], 3, SHORT, [0])[0]
    network = AANet(48, 3)
    network.load_state_dict(state_dict(result, cluster.basis))
    x = torch.from_numpy(cluster.heldout @ cluster.basis.T)
    total, recon, archetypal, _ = plain_losses(network, x, 0.0, 0, SHORT)
    residual = float((network(x) - x).square().sum())
    mean = torch.from_numpy(cluster.train @ cluster.basis.T).mean(0)
    spread = float((x - mean).square().sum())
    expected = {
        "loss": float(total),
        "recon_loss": float(recon),
        "archetypal_loss": float(archetypal),
        "explained_variance": 1 - residual / spread,
        "in_simplex": float((network.barycentric(x) >= 0).all(1).float().mean()),
    }
    assert result.heldout == pytest.approx(expected, rel=1e-3)


def test_no_heldout_rows_no_heldout_metrics():
    cluster = with_rows(planted_cluster(), heldout=planted_cluster().heldout[:0])
    result = train_clusters([cluster], 3, SHORT, [0])[0]
    assert result.status == "ok"
    assert result.heldout is None


def test_batches_hold_every_row_once_an_epoch():
    batches = ModelBatches(24, 8, seed=0, device="cpu")
    epochs = batches.rows(7), batches.rows(2)
    drawn = torch.cat(epochs).view(3, -1)
    assert [sorted(epoch) for epoch in drawn.tolist()] == [list(range(24))] * 3
    assert len({tuple(epoch) for epoch in drawn.tolist()}) == 3


def test_bad_calls_are_refused_and_threads_are_restored():
    cluster, wider = planted_cluster(), planted_cluster(d_model=50)
    with pytest.raises(ValueError, match="at least 2 archetypes"):
        train_clusters([cluster], 1, SHORT, [0])
    with pytest.raises(ValueError, match=r"\[48, 50\]"):
        train_clusters([cluster, wider], 3, SHORT, [0, 0])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    train_clusters([cluster], 3, SHORT, [0])
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
