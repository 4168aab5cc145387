"""Vertex samples against a slow restatement that goes token by token."""

from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from aanet_assets.science.aanet.reference import AANet
from aanet_assets.science.activations.corpus import load_tokenizer
from aanet_assets.science.activations.rows import Cluster
from aanet_assets.science.activations.shards import Shard
from aanet_assets.science.vertices.collect import Collection, Search, collect
from aanet_assets.science.vertices.report import stats_rows, status
from aanet_assets.study.settings import VertexSettings
from aanet_assets_tests.small import small_study

SEQ, CHUNKS, K, LIMIT = 9, 60, 3, 0.4
_PARALLEL = ("tokens", "special", "documents", "starts", "norms")


def planted(seed: int) -> tuple[Shard, Cluster, AANet]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 23, (CHUNKS, SEQ))
    special = np.zeros((CHUNKS, SEQ), dtype=bool)
    special[:, 0] = True
    tokens[:, 0] = 23
    codes = np.where(rng.random((CHUNKS * SEQ, 6)) < 0.5, rng.random((CHUNKS * SEQ, 6)), 0)
    codes[special.ravel()] = 0
    latents = np.array([0, 2, 5])
    basis = np.linalg.qr(rng.standard_normal((8, 3)))[0].astype(np.float32)
    coordinates = rng.standard_normal((3, 3)).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AANet(8, K)
    with torch.no_grad():
        for layer in model.encoder_layers:
            assert isinstance(layer, torch.nn.Linear)
            layer.weight.mul_(3)
    documents, starts = np.arange(CHUNKS) + 40, np.arange(CHUNKS) * SEQ
    norms = np.ones((CHUNKS, SEQ), dtype=np.float32)
    shard = Shard(
        tokens, special, documents, starts, norms, sp.csr_matrix(codes.astype(np.float32))
    )
    return shard, Cluster(0, latents, basis, coordinates), model.eval()


def found_by(shards: list[Shard], cluster: Cluster, model, tokenizer, settings) -> Collection:
    """What one search finds, beside another of the same."""
    search = Search(cluster, LIMIT, model)
    found, same = collect(shards, [search, search], tokenizer, settings)
    assert found == same
    return found


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(small_study())


@pytest.mark.parametrize("seed", range(3))
def test_samples_are_those_a_slow_walk_finds(seed: int, tokenizer) -> None:
    shard, cluster, model = planted(seed)
    settings = VertexSettings(distance=0.8, samples_per_vertex=1000)
    found = found_by([shard], cluster, model, tokenizer, settings)
    expected: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    for chunk in range(CHUNKS):
        for place in range(SEQ):
            own = shard.codes[chunk * SEQ + place].toarray()[0][cluster.latents]
            if own.sum() <= LIMIT:
                continue
            x = torch.tensor(own @ cluster.coordinates @ cluster.basis.T)[None]
            with torch.no_grad():
                coordinates = model.barycentric(x)[0].numpy()
            for vertex in range(K):
                distance = np.sqrt(((coordinates - np.eye(K)[vertex]) ** 2).sum())
                if distance < settings.distance:
                    expected[chunk, vertex].append((place, float(distance)))
    assert len(expected) > 10
    by_content = {
        (tuple(sample.chunk_token_ids), sample.vertex_id): sample for sample in found.samples
    }
    assert len(found.samples) == len(by_content) == len(expected)
    for (chunk, vertex), triggers in expected.items():
        sample = by_content[tuple(shard.tokens[chunk]), vertex]
        assert sample.trigger_token_indices == [place for place, _ in triggers]
        assert sample.distances_to_vertex == pytest.approx([d for _, d in triggers], abs=1e-4)
        assert (sample.document, sample.document_token) == (40 + chunk, SEQ * chunk)
        words = sample.full_text.split()
        assert words == tokenizer.convert_ids_to_tokens(shard.tokens[chunk])[1:]
        assert sample.trigger_words == sample.trigger_text_words
        assert sample.trigger_words == [words[i] for i in sample.trigger_word_indices]
    assert found.tokens_seen == CHUNKS * (SEQ - 1)
    assert found.counts == [sum(v == vertex for _, v in expected) for vertex in range(K)]


def test_a_vertex_gets_no_more_than_its_target(tokenizer) -> None:
    shard, cluster, model = planted(0)
    settings = VertexSettings(distance=0.8, samples_per_vertex=2)
    found = found_by([shard, shard], cluster, model, tokenizer, settings)
    assert max(found.counts) == 2
    assert len(found.samples) == sum(found.counts)
    short = [vertex for vertex, count in enumerate(found.counts) if count < 2]
    assert status(found, settings) == (
        "incomplete_vertices_" + "_".join(map(str, short)) if short else "complete"
    )
    assert [row["reached_target"] for row in stats_rows(found, settings)] == [
        count == 2 for count in found.counts
    ]


def test_no_token_beyond_the_limit_is_looked_at(tokenizer) -> None:
    shard, cluster, model = planted(0)
    settings = VertexSettings(distance=0.8, samples_per_vertex=1000, max_tokens=100)
    found = found_by([shard, shard], cluster, model, tokenizer, settings)
    assert found.tokens_seen == 96  # twelve chunks of eight tokens that count
    first = found_by(
        [
            Shard(
                *(getattr(shard, n)[:12] for n in _PARALLEL),
                codes=shard.codes[: 12 * SEQ],
            )
        ],
        cluster, model, tokenizer, settings,
    )  # fmt: skip
    assert found.samples == first.samples


def test_no_model_is_said_to_be_none() -> None:
    assert status(None, VertexSettings()) == "no_model"
