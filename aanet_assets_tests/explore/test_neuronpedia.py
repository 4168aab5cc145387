"""Steering vectors for Neuronpedia, against the vertices that they lead to."""

import json

import numpy as np
import pytest

from aanet_assets import Simplex
from aanet_assets.explore.provenance import Provenance


def test_neuronpedia_takes_the_stream_before_the_next_layer(simplex: Simplex) -> None:
    with pytest.raises(ValueError, match="is after the last of the 3 layers"):
        simplex.to_neuronpedia()
    deeper: Provenance = simplex.provenance.model_copy(update={"layers": 4})
    found = Simplex(deeper, simplex._cluster, simplex._model, simplex._sae).to_neuronpedia()
    assert len(found) == 3
    for vertex, one in enumerate(found):
        assert (one["modelId"], one["layerNumber"]) == ("model", 3)
        assert one["hookType"] == "hook_resid_pre"
        step = np.array(one["vector"]) * one["vectorDefaultSteerStrength"]
        middle = simplex.vertices.mean(axis=0)
        np.testing.assert_allclose(middle + step, simplex.vertices[vertex], atol=1e-5)
        assert np.linalg.norm(one["vector"]) == pytest.approx(1)
        assert one["vectorLabel"] == (f"small: vertex {vertex} of cluster 0 of n_clusters 7 at k=3")
    json.dumps(found)
