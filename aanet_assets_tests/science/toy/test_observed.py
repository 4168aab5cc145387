"""What a study whose answer is known saw and learned."""

import numpy as np

from aanet_assets.science.activations.shards import counted_tokens
from aanet_assets.science.toy.observed import Models, names_of, observed
from aanet_assets.steps.aanets import STACK
from aanet_assets.steps.activations import BY_LATENT, SHARD
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, cluster_rows
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.outputs import read


def test_tokens_codes_and_coordinates_are_of_the_same_heldout_tokens(finished: Finished) -> None:
    study, root = finished.study, finished.study.paths.root
    shards = [SHARD.under(root, shard=shard) for shard in study.shards]
    first = len(study.training_shards)
    by_latent = [BY_LATENT.under(root, shard=shard) for shard in study.shards]
    seen = observed(study, shards[:first], shards[first:], by_latent)
    tokens = counted_tokens(shards[first:]).size
    names = names_of(study)
    assert len(names) == len(seen.heldout.factors) == 7
    assert {len(factor.values) for factor in seen.heldout.factors} == {tokens}
    codes = seen.codes_heldout(np.arange(4))
    assert codes.shape == (tokens, 4)
    stacks = {3: STACK.under(root, n=7, k=3)}
    table = read(study, cluster_rows.at(n=7), CLUSTERS)
    models = Models(CLUSTERING.under(root, n=7), stacks, table, seen, study.aanet)
    found = models.barycentric(0, 3)
    assert found is not None
    active, coordinates = found
    assert coordinates.shape == (len(active), 3)
    np.testing.assert_allclose(coordinates.sum(axis=1), 1, atol=1e-4)
    own = seen.codes_heldout(np.flatnonzero(models.labels == 0))
    assert (np.asarray(own.sum(axis=1)).ravel()[active] > 0).all()
    # There is no such k, and no such cluster.
    assert models.barycentric(0, 4) is None
    assert models.barycentric(99, 3) is None
