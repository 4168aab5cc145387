"""The whole small study on a real instance: files, tables, restart, replacement, refusals."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import torch

from aanet_assets.orchestration.driver import Driver, Failure, plan
from aanet_assets.orchestration.pipeline import partitions_of, tables_of
from aanet_assets.science.aanet.export import load_aanet
from aanet_assets.science.activations.shards import read_shard
from aanet_assets.science.selection.consolidate import CSV_COLUMNS, read_csv
from aanet_assets.steps.aanets import EXPORT, aanet_metrics, aanet_models
from aanet_assets.steps.activations import BY_LATENT, SHARD, activation_cache, codes_by_latent
from aanet_assets.steps.clusters import cluster_rows, clustering, latent_effects
from aanet_assets.steps.ground_truth import recovery
from aanet_assets.steps.metrics import CURVES, METRICS_CSV, analysis_plots, consolidated_metrics
from aanet_assets.steps.predictions import token_groups
from aanet_assets.steps.selection import selected_clusters
from aanet_assets.steps.vertices import refit_models, vertex_samples
from aanet_assets.storage import warehouse
from aanet_assets.storage.integrity import discard
from aanet_assets.storage.records import Standing
from aanet_assets.storage.step import Step
from aanet_assets.study.study import Study
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.small import small_study


def digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.suffix not in (".duckdb", ".lock")
    }


def asked(study: Study, sql: str) -> pd.DataFrame:
    return warehouse.query(study.paths, tables_of(study), sql).df()


def metadata_of(record: dg.EventLogRecord) -> dict[str, Any]:
    """What a materialisation says of itself."""
    materialization = record.asset_materialization
    assert materialization is not None
    return {name: said.value for name, said in materialization.metadata.items()}


def test_every_partition_is_materialised_in_dagster(finished: Finished) -> None:
    for partition in partitions_of(finished.study):
        records = finished.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                dg.AssetKey([finished.study.name, partition.step.name]),
                asset_partitions=[partition.key] if partition.key else None,
            ),
            limit=1,
        ).records
        assert records, partition
        metadata = metadata_of(records[0])
        assert metadata["dagster/row_count"] is not None
        assert metadata["seconds"] >= 0
        # Nothing is selected of the six clusters, so there is no model to refit.
        nothing = partition == refit_models.at(n=6)
        assert (metadata["bytes"] == 0) == nothing


def test_stage1_files_have_the_guides_names(finished: Finished) -> None:
    folder = finished.study.paths.root / "clusters_7"
    names = {path.name for path in folder.iterdir()}
    models = {f"aanet_cluster_{c}_k{k}.pt" for c in range(7) for k in (2, 3, 4)}
    assert models | {"consolidated_metrics_n7.csv", "training_curves_n7.jsonl", "plots"} <= names
    own = {"selection_funnel_n7.png", "reproducibility_n7.png"}
    assert {path.name for path in (folder / "plots").iterdir()} - own == {
        "pca_vs_geometric_rank_n7.png",
        "decoder_rank_dist_n7.png",
        "elbow_strength_dists_n7.png",
        "recon_vs_arch_unzoomed_n7.png",
        "recon_vs_arch_zoomed_n7.png",
        "recovery_n7.png",
    }


def test_consolidated_csv_has_the_guides_columns_and_agrees_with_sql(finished: Finished) -> None:
    csv = METRICS_CSV.under(finished.study.paths.root, n=7)
    header = csv.read_text().splitlines()[0].split(",")
    assert tuple(header[: len(CSV_COLUMNS)]) == CSV_COLUMNS
    from_csv = read_csv(csv)
    from_sql = asked(
        finished.study,
        "FROM consolidated_metrics WHERE n_clusters_total = 7 ORDER BY cluster_id, aanet_k",
    )
    assert len(from_csv) == len(from_sql) == 7 * 3
    assert list(from_sql.columns) == header
    for column in ("aanet_recon_loss", "average_l0", "aanet_recon_loss_elbow_strength"):
        pd.testing.assert_series_equal(
            from_csv[column], from_sql[column], check_dtype=False, check_exact=False
        )
    assert [list(x) for x in from_sql["latent_indices"]] == list(from_csv["latent_indices"])


def test_training_curves_have_one_line_per_cluster_and_k(finished: Finished) -> None:
    lines = CURVES.under(finished.study.paths.root, n=7).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(r["cluster_id"], r["aanet_k"]) for r in rows] == [
        (c, k) for c in range(7) for k in (2, 3, 4)
    ]
    for row in rows:
        assert set(row["metrics_history"]) == {
            "aanet_loss", "aanet_recon_loss", "aanet_archetypal_loss", "aanet_extrema_loss",
            "loss", "reconstruction_loss", "archetypal_loss", "extrema_loss",
        }  # fmt: skip
        assert len({len(history) for history in row["metrics_history"].values()}) == 1


def test_reported_losses_are_medians_of_the_last_recorded_steps(finished: Finished) -> None:
    rows = asked(
        finished.study,
        """SELECT m.aanet_recon_loss,
                  list_aggregate(c.recon_loss_history[-20:], 'median') AS median
           FROM aanet_metrics m JOIN training_curves c
           USING (n_clusters_total, cluster_id, aanet_k)""",
    )
    assert len(rows) == (6 + 7) * 3
    assert list(rows["aanet_recon_loss"]) == pytest.approx(list(rows["median"]), rel=1e-6)


def test_pt_models_load_into_a_plain_full_width_network(finished: Finished) -> None:
    state = torch.load(
        EXPORT.under(finished.study.paths.root, n=7, cluster_id=2, k=3), weights_only=True
    )
    plain = torch.nn.ModuleDict(
        {
            "encoder_layers": torch.nn.ModuleList(
                [torch.nn.Linear(64, 64), torch.nn.Linear(64, 32), torch.nn.Linear(32, 2)]
            ),
            "decoder_layers": torch.nn.ModuleList(
                [torch.nn.Linear(2, 32), torch.nn.Linear(32, 64), torch.nn.Linear(64, 64)]
            ),
        }
    )
    plain.load_state_dict(state)  # strict: these names and shapes, and no others


def test_stage3_files_and_manifest(finished: Finished) -> None:
    folder = finished.study.paths.root / "selected_clusters" / "n7"
    stems = ("cluster_0_k3_categoryM", "cluster_3_k2_categoryM")
    endings = (".pt", "_vertex_samples.jsonl", "_vertex_stats.json", "_metadata.json",
               "_curves.json")  # fmt: skip
    expected = {stem + ending for stem in stems for ending in endings}
    assert {path.name for path in folder.iterdir()} == expected | {"manifest.json"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {f for entry in manifest["clusters"] for f in entry["files"]} == expected
    for stem in stems:
        metadata = json.loads((folder / f"{stem}_metadata.json").read_text())
        assert metadata["status"] == "ok"
        assert metadata["k_source"] == "manual"
        stats = json.loads((folder / f"{stem}_vertex_stats.json").read_text())
        assert stats["model"] == stats["tokenizer"] == "data/inputs/toy/model"
        short = [v["vertex_id"] for v in stats["vertices"] if not v["reached_target"]]
        assert stats["collection_status"] == (
            "incomplete_vertices_" + "_".join(map(str, short)) if short else "complete"
        )
        lines = (folder / f"{stem}_vertex_samples.jsonl").read_text().splitlines()
        assert len(lines) == sum(v["samples"] for v in stats["vertices"]) > 0


def test_samples_point_at_what_they_say(finished: Finished) -> None:
    rows = asked(finished.study, "FROM vertex_samples")
    for row in rows.to_dict("records"):
        words = row["full_text"].split()
        for place, token, word_place, word, decoded, start, end, distance in zip(
            row["trigger_token_indices"],
            row["trigger_token_ids"],
            row["trigger_word_indices"],
            row["trigger_text_words"],
            row["trigger_words"],
            row["trigger_token_starts"],
            row["trigger_token_ends"],
            row["distances_to_vertex"],
            strict=True,
        ):
            # The toy's tokens are words.
            assert row["full_text"][start:end] == decoded == word
            assert row["chunk_token_ids"][place] == token
            assert place > 0, "BOS is never near a vertex"
            assert words[word_place] == word
            assert word_place == place - 1, "BOS is no word"
            assert 0 <= distance < finished.study.vertices.distance


def test_no_sample_repeats_another_or_training_text(finished: Finished) -> None:
    rows = asked(finished.study, "FROM vertex_samples")
    chunks = rows.assign(chunk=rows["chunk_token_ids"].map(tuple))
    assert not chunks.duplicated(["cluster_id", "vertex_id", "chunk"]).any()
    training = {
        tuple(chunk)
        for shard in finished.study.training_shards
        for chunk in read_shard(SHARD.under(finished.study.paths.root, shard=shard)).tokens.tolist()
    }
    heldout = [
        tuple(chunk)
        for chunk in read_shard(SHARD.under(finished.study.paths.root, shard=2)).tokens.tolist()
    ]
    assert not training & set(chunks["chunk"])
    stats = asked(
        finished.study, "SELECT DISTINCT heldout_chunks, chunks_in_training FROM vertex_stats"
    )
    repeated = sum(chunk in training for chunk in heldout)
    assert stats.values.tolist() == [[len(heldout), repeated]]


def test_a_cluster_without_a_category_says_why(finished: Finished) -> None:
    rows = asked(
        finished.study, "FROM selected_clusters WHERE NOT selected AND n_clusters_total = 7"
    )
    assert len(rows) == 5
    assert rows["reason"].str.len().min() > 10


def test_no_cluster_selected_is_a_result(finished: Finished) -> None:
    # Clusterings of 6 have no manual pick, and no strength reaches its limit.
    manifest = json.loads(
        (finished.study.paths.root / "selected_clusters" / "n6" / "manifest.json").read_text()
    )
    assert manifest["clusters"] == []
    assert "no cluster is selected" in manifest["note"]
    asset = dg.AssetKey(["small", "selected_clusters"])
    record = finished.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset, asset_partitions=["6"]), limit=1
    ).records[0]
    assert "cluster" in metadata_of(record)["outcome"]


def test_everything_there_is_found_again(finished: Finished) -> None:
    assert all(finished.driver.is_there(partition) for partition in plan(finished.study))


def test_materialising_again_gives_the_same_bytes_and_version(finished: Finished) -> None:
    before = digests(finished.study.paths.root)
    for partition in (
        activation_cache.at(shard=0),
        clustering.at(n=7),
        cluster_rows.at(n=7),
        aanet_models.at(n=7, k=3),
        aanet_metrics.at(n=7, k=3),
        consolidated_metrics.at(n=7),
        analysis_plots.at(n=7),
        selected_clusters.at(n=7),
        refit_models.at(n=7),
        vertex_samples.at(n=7),
        recovery.at(n=7),
    ):
        finished.driver.materialise(partition)
    assert digests(finished.study.paths.root) == before


def test_changed_settings_make_stale_what_depends_on_them(finished: Finished) -> None:
    changed = small_study(vertices={"distance": 0.4, "samples_per_vertex": 20})
    standing = Standing(changed)
    assert standing.problem(refit_models.at(n=7)) is None
    problem = standing.problem(vertex_samples.at(n=7))
    assert problem == "was made before a change: vertices.distance was 0.5, is now 0.4"


def test_a_step_refuses_what_is_stale_and_says_what_to_run(
    finished: Finished, tmp_path: Path
) -> None:
    changed = small_study(aanet=finished.study.aanet.model_copy(update={"max_steps": 151}))
    # A run that fails leaves its planned checks behind, which others would find on their instance.
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        pytest.raises(Failure) as failure,
    ):
        Driver(changed, instance).materialise(aanet_metrics.at(n=7, k=2))
    message = str(failure.value)
    assert "aanet_models [n_clusters 7, k 2]" in message
    assert "aanet.max_steps was 150, is now 151" in message
    assert "aanet run small --until aanet_models --n-clusters 7" in message


def test_nothing_is_made_from_a_file_that_is_not_as_it_was_recorded(
    copied: Study, tmp_path: Path
) -> None:
    wanted, damaged = cluster_rows.at(n=7), codes_by_latent.at(shard=1)
    file = BY_LATENT.under(copied.paths.root, shard=1)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    # Of equal size, so that looking at it tells nothing.
    assert Standing(copied).problem(wanted) is None
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        driver = Driver(copied, instance)
        with pytest.raises(Failure) as failure:
            driver.materialise(wanted)
        assert re.search(
            r"cluster_rows \[n_clusters 7\] of study 'small' needs codes_by_latent \[shard 1\], "
            r"whose files do not hold what was recorded of them \(recorded \w{16}, found \w{16}\)"
            r".* Run: aanet doctor small, then: aanet run small",
            str(failure.value),
        )
        assert Standing(copied).problem(wanted) is None, "what is there is left alone"
        discard(copied, damaged)
        driver.materialise(damaged)
        driver.materialise(wanted)
    assert Standing(copied).problem(wanted) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "kmeans"},
        {"method": "k_subspaces"},
        {"method": "spectral_decoder"},
        {"method": "spectral_effect"},
        {"method": "leiden"},
        *(
            {"method": "spectral_cooccurrence", "cooccurrence": kind}
            for kind in ("jaccard", "dice", "overlap", "mutual_information")
        ),
        {"method": "labels", "labels_file": "data/labels_{n}.npy"},
    ],
    ids=lambda settings: "-".join(settings.values()),
)
def test_every_clustering_method_goes_as_far_as_models(
    finished: Finished, home: Path, settings: dict[str, str]
) -> None:
    np.save(home / "data" / "labels_6.npy", np.arange(32) % 6)
    study = finished.study.sharing(
        "methods",
        clustering=settings,
        rows=finished.study.rows,
        n_clusters=(6,),
        ks=(2, 3, 4),
        selection={},
        aanet={"max_steps": 20},
    )
    driver = Driver(study, finished.instance)
    for partition in plan(study, until="aanet_metrics", ks=[3]):
        if not driver.is_there(partition):
            driver.materialise(partition)
    rows = asked(study, "FROM clusters")
    assert rows["n_latents"].sum() == 32
    assert rows["n_latents"].min() >= 1
    metrics = asked(study, "FROM aanet_metrics")
    assert set(metrics["aanet_status"]) == {"ok"}


@pytest.fixture
def stage1_mode(finished: Finished):
    """The same study with models of stage 1; the other mode's files are put back afterwards."""
    study = small_study(refit={"mode": "stage1"})
    yield Driver(study, finished.instance), study
    for step in (refit_models, vertex_samples):
        finished.driver.materialise(step.at(n=7))


def test_stage1_mode_takes_the_models_of_stage1(stage1_mode) -> None:
    driver, study = stage1_mode
    driver.materialise(refit_models.at(n=7))
    driver.materialise(vertex_samples.at(n=7))
    taken = study.paths.root / "selected_clusters" / "n7" / "cluster_0_k3_categoryM.pt"
    assert taken.read_bytes() == EXPORT.under(study.paths.root, n=7, cluster_id=0, k=3).read_bytes()
    assert not list((study.paths.root / "selected_clusters" / "n7").glob("*_curves.json")), (
        "nothing was trained"
    )
    assert load_aanet(taken)


def test_what_only_steps_of_other_studies_read_is_not_asked_for() -> None:
    """Clustering by effects reads groups of tokens; other clusterings do not."""

    def asked(method: str) -> set[Step]:
        study = small_study(clustering={"method": method})
        return {partition.step for partition in plan(study, until=clustering.name)}

    assert asked("kmeans").isdisjoint({token_groups, latent_effects})
    assert asked("spectral_effect") >= {token_groups, latent_effects, clustering}
