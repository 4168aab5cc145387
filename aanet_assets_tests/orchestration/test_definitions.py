"""What Dagster is told: assets, partitions, edges; and that telling it loads nothing heavy."""

import subprocess
import sys
from types import ModuleType

import dagster as dg
import pytest
from dagster._core.definitions.events import AssetKeyPartitionKey

from aanet_assets.defs import gemma_2_9b, gpt2_small, smollm2, toy, toy_large, toy_product
from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.pipeline import partitions_of, steps_of
from aanet_assets.storage.step import Partition, parts_read, upstream
from aanet_assets_tests.small import small_study


def test_loading_the_studies_imports_no_heavy_library() -> None:
    code = (
        "import sys; from aanet_assets.defs import "
        "toy, toy_large, toy_product, smollm2, gpt2_small, gemma_2_9b; "
        "heavy = {'torch', 'transformers', 'sae_lens', 'datasets', 'sklearn', 'matplotlib', "
        "'pandas', 'scipy', 'alembic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def described(defs: dg.Definitions) -> dict[str, tuple[str, int, list[str]]]:
    """Group, number of partitions and upstream of every asset."""
    graph = defs.resolve_asset_graph()
    return {
        key.to_user_string(): (
            graph.get(key).group_name,
            len(partitions.get_partition_keys())
            if (partitions := graph.get(key).partitions_def)
            else 1,
            sorted(parent.path[-1] for parent in graph.get(key).parent_keys),
        )
        for key in graph.materializable_asset_keys
    }


@pytest.mark.parametrize("module", [toy, toy_large, toy_product, smollm2, gpt2_small, gemma_2_9b])
def test_dagsters_graph_is_what_the_steps_declare(module: ModuleType) -> None:
    study = module.study
    assert described(module.defs) == {
        f"{study.name}/{step.name}": (
            f"{study.name}_{step.group}",
            len(list(step.all_of(study))),
            sorted(part.step.name for part in parts_read(study, step)),
        )
        for step in steps_of(study)
    }


def test_dagsters_partitions_are_made_from_those_that_are_read() -> None:
    study = small_study()
    graph = build_defs(study).resolve_asset_graph()

    def in_dagster(partition: Partition) -> AssetKeyPartitionKey:
        return AssetKeyPartitionKey(dg.AssetKey([study.name, partition.step.name]), partition.key)

    for partition in partitions_of(study):
        read = graph.get_parents_partitions(*in_dagster(partition)).parent_partitions
        assert read == {in_dagster(up) for up in upstream(study, partition)}, partition


def test_the_cache_is_made_from_the_files_that_the_study_names() -> None:
    """Libraries open these, and nothing but the declaration says that they are read."""
    found = described(toy.defs)
    assert found["toy/sae_fit"][2] == ["corpus"]
    assert found["toy/activation_cache"][2] == ["corpus", "sae_fit"]


def test_replicates_are_assets_where_the_study_has_them() -> None:
    assert not {"toy/replicates", "toy/reproducibility"} & set(described(toy.defs))
    graph = described(toy_large.defs)
    read = ["aanet_models", "cluster_rows", "clustering", "null_clusters"]
    assert graph["toy_large/replicates"] == ("toy_large_1e_evidence", 7, read)
    assert "replicates" in graph["toy_large/evidence"][2]
    assert "toy_large/reproducibility" in graph


def test_the_guides_study_has_the_guides_settings() -> None:
    study = gemma_2_9b.study
    assert (study.model, study.dtype) == ("google/gemma-2-9b", "bfloat16")
    assert study.sae.name == "gemma-scope-9b-pt-res/layer_20/width_16k/average_l0_68"
    assert (study.corpus.dataset, study.corpus.config) == ("HuggingFaceFW/fineweb", "sample-10BT")
    assert (study.corpus.revision or "")[:8] == "9bb295dd", "FineWeb v1.4.0"
    assert study.corpus.seed == 42
    assert (study.cache.seq_len, study.cache.max_doc_tokens) == (256, 3000)
    assert study.n_clusters == (128, 256, 512, 768)
    assert study.ks == (2, 3, 4, 5, 6, 7, 8)
    assert study.clustering.method == "kmeans"
    aanet = study.aanet
    assert (aanet.widths, aanet.noise, aanet.simplex_scale) == ((64, 32), 0.05, 1.0)
    assert (aanet.recon_weight, aanet.archetypal_weight, aanet.extrema_weight) == (1, 4, 2)
    assert (aanet.weight_decay, aanet.clip_norm) == (1e-5, 1.0)
    assert (aanet.plateau_factor, aanet.plateau_patience, aanet.min_lr) == (0.5, 30, 1e-6)
    assert aanet.smoothing_window == 20
    assert (aanet.stop_patience, aanet.stop_min_delta, aanet.seed) == (250, 1e-6, 43)
    assert (study.extrema.knn, study.extrema.max_rows) == (150, 1000)
    assert (study.refit.mode, study.refit.extrema.max_rows) == ("retrain", 10_000)
    vertices = study.vertices
    assert (vertices.distance, vertices.samples_per_vertex) == (0.1, 1000)
    assert vertices.max_tokens == 1_000_000
    selection = study.selection
    assert (selection.a_sd, selection.b_sd, selection.c_sd, selection.d_sd) == (1, 3, 3, 0)
    assert (selection.min_latents, selection.max_k_differential) == (2, 1)
    assert (selection.min_recon_pct_decrease, selection.min_arch_pct_decrease) == (20, 20)
    assert selection.k_from == "archetypal"


def test_studies_share_no_asset() -> None:
    assets = [set(described(m.defs)) for m in (toy, smollm2, gpt2_small, gemma_2_9b)]
    assert len(set().union(*assets)) == sum(map(len, assets))


def test_a_study_that_makes_its_inputs_begins_with_them() -> None:
    found = described(smollm2.defs)
    assert found["smollm2/sae"] == ("smollm2_0_local", 1, ["language_model", "prose"])
    assert found["smollm2/sae_fit"][2] == ["language_model", "prose", "sae"]


def test_runs_that_use_a_gpu_wait_for_it_in_one_pool() -> None:
    pools = {
        defs: {asset.key.path[1]: asset.op.pool for asset in module.defs.assets or ()}
        for defs, module in (("gemma", gemma_2_9b), ("toy", toy))
    }
    users = {
        "sae_fit", "activation_cache", "predictions", "aanet_models", "replicates", "refit_models",
        "vertex_samples",
    }  # fmt: skip
    assert {name for name, pool in pools["gemma"].items() if pool == "cuda"} == users
    assert set(pools["toy"].values()) == {None}


def test_the_launchpad_refuses_settings_by_name() -> None:
    """A study's settings are in its module; a run cannot have others."""
    job = toy.defs.resolve_job_def("toy_stage1_grid")
    config = {"ops": {"toy__aanet_models": {"config": {"lr": 0.1}}}}
    with pytest.raises(dg.DagsterInvalidConfigError) as refused:
        dg.validate_run_config(job, config)
    assert 'unexpected config entry "lr" at path root:ops:toy__aanet_models:config' in str(
        refused.value
    )
