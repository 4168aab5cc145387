"""Estimates against things that are really loaded and written, and their messages."""

import pytest
from transformers import AutoModel, Gemma2Config

from aanet_assets.cli.hardware import dealt, parse_hardware, rows_on
from aanet_assets.cli.planning import make_plan, rows_of
from aanet_assets.defs import gemma_2_9b, gpt2_small
from aanet_assets.science.activations.sae_config import Hook
from aanet_assets.science.activations.size import config_of, size_of
from aanet_assets.science.belief.editor import KEPT
from aanet_assets.steps.activations import BY_LATENT, SHARD
from aanet_assets.steps.clusters import ROWS
from aanet_assets.steps.predictions import PREDICTIONS
from aanet_assets.study.settings import BeliefSettings, HubSettings
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.small import small_study


def test_a_finished_study_took_what_was_planned(finished: Finished) -> None:
    study = finished.study
    plan = make_plan(study)
    shards = [
        SHARD.under(study.paths.root, shard=s)
        for s in (*study.training_shards, *study.heldout_shards)
    ]
    assert plan.cache_disk == pytest.approx(sum(p.stat().st_size for p in shards), rel=0.1)
    assert plan.by_latent_disk is not None
    by_latent = [BY_LATENT.under(study.paths.root, shard=shard) for shard in study.shards]
    # Shards of so few tokens number them in two bytes each.
    size = sum(path.stat().st_size for path in by_latent)
    assert 0.6 * plan.by_latent_disk < size < 1.1 * plan.by_latent_disk
    assert plan.aanets == sum(study.n_clusters) * len(study.ks)
    rows = sum(ROWS.under(study.paths.root, n=n).stat().st_size for n in study.n_clusters)
    assert rows <= plan.rows_disk * 1.1
    assert plan.cache_seconds > plan.prediction_seconds > 0
    predicted = sum(
        PREDICTIONS.under(study.paths.root, shard=s).stat().st_size for s in study.heldout_shards
    )
    assert predicted == pytest.approx(plan.prediction_disk, rel=0.1)


def test_edits_take_what_is_kept_of_chunks_up_to_a_limit() -> None:
    small = small_study()
    assert make_plan(small).edit_memory is None
    few = small.model_copy(update={"belief": BeliefSettings(tokens=1_000)})
    more = small.model_copy(update={"belief": BeliefSettings(tokens=2_000)})
    plan, other = make_plan(few), make_plan(more)
    assert plan.edit_memory is not None
    assert other.edit_memory is not None
    # The toy's model has 3 layers of width 64.
    assert other.edit_memory - plan.edit_memory == 1_000 * 4 * 64 * 7
    assert "memory of edits" in [row[0] for row in rows_of(plan)]
    large = few.model_copy(update={"belief": BeliefSettings(tokens=10**9)})
    shards = large.cache.model_copy(update={"tokens_per_shard": 10**9})
    found = make_plan(large.model_copy(update={"cache": shards})).edit_memory
    assert found is not None
    assert 0 < found - KEPT < 10**8


def test_parameters_are_those_of_the_loaded_model() -> None:
    config = Gemma2Config(
        vocab_size=50, hidden_size=16, intermediate_size=40, num_hidden_layers=4,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    size_at = Hook(1, "post")
    size = size_of(config, size_at)
    whole = AutoModel.from_config(config)
    assert size.everything == sum(p.numel() for p in whole.parameters())
    layers = [sum(p.numel() for p in layer.parameters()) for layer in whole.layers]
    assert size.multiplied == sum(layers[:2])
    assert size.read == size.everything - sum(layers[2:])
    assert size.with_head == size.everything, "the head is the embeddings"
    assert size.to_predict == sum(layers) + 50 * 16
    untied = size_of(Gemma2Config(**{**config.to_dict(), "tie_word_embeddings": False}), size_at)
    assert untied.with_head == size.everything + 50 * 16
    assert size_of(config, Hook(2, "pre")) == size
    assert (size.d_model, size.heads, size.largest) == (16, 2, 40)


def test_the_hub_studies_are_planned_without_a_hub() -> None:
    gemma = make_plan(gemma_2_9b.study)
    assert gemma.size.everything == pytest.approx(9.24e9, rel=0.001), "as its makers count"
    assert gemma.latents.l0 == 68
    assert gemma.tokens == 8 * 2**18
    gpt2 = make_plan(gpt2_small.study)
    assert gpt2.size.everything == pytest.approx(124.4e6, rel=0.001), "as its makers count"
    assert [what for what, _, _ in rows_of(gpt2)] == [what for what, _, _ in rows_of(gemma)]


def test_what_is_not_known_is_said() -> None:
    study = gpt2_small.study
    unknown = study.model_copy(update={"hub": None})
    with pytest.raises(
        ValueError, match=r"'gpt2-small-res-jb/blocks\.8\.hook_resid_pre' is not on"
    ):
        make_plan(unknown)
    with pytest.raises(ValueError, match="'openai-community/gpt2' is not on this machine"):
        config_of(unknown)
    hub = HubSettings(model_type="gpt2", hook="blocks.8.hook_resid_pre", latents=100)
    silent = Study.model_validate({**study.model_dump(), "hub": hub.model_dump()})
    rows = dict((what, amount) for what, amount, _ in rows_of(make_plan(silent)))
    assert rows["activation cache"] == "not known yet"


def test_a_grid_is_dealt_largest_first() -> None:
    assert sorted(dealt([5, 4, 3, 3, 3], 2)) == [8, 10]
    assert sorted(dealt([1], 3)) == [0, 0, 1]


def test_on_other_hardware_more_nodes_take_less_time_and_what_is_not_known_is_said() -> None:
    study = gemma_2_9b.study
    plan = make_plan(study)
    one, two = (
        {row[0]: row[1:] for row in rows_on(study, plan, parse_hardware("8xH100", nodes))}
        for nodes in (1, 2)
    )
    assert (one["runs at once"][0], two["runs at once"][0]) == ("8", "16")
    assert one["memory of a GPU"][::2] == ("20.8 GB of 80.0 GB", "data sheet")
    # A GPU never has less than a whole shard, and replicates of one n_clusters are one run.
    assert one["activation cache"] == two["activation cache"]
    assert one["time of the AANets"][0] == "not known"
    assert one["longest run"][1].startswith("48,384 AANets")
    narrow = rows_on(study, plan._replace(working_memory=10**11), parse_hardware("8xh100", 1))
    assert narrow[1][1].startswith("does not fit")
    cores = {row[0]: row[1:] for row in rows_on(study, plan, parse_hardware("2xcpu", 8))}
    assert cores["time of the AANets"][2] == "measured"
    assert cores["memory of a node"][0] == "41.7 GB"


@pytest.mark.parametrize("on", ["8xtpu", "0xh100", "h100", "8h100", "-1xcpu", ""])
def test_hardware_that_is_none(on: str) -> None:
    with pytest.raises(ValueError, match=r"names no hardware.*8xh100 or 64xcpu.*a100, h100"):
        parse_hardware(on, 1)
