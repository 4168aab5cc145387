"""Damaged samples, and samples that come from where they must not."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from aanet_assets.steps.checks.finding import Finding
from safetensors import safe_open

from aanet_assets.steps.activations import SHARD
from aanet_assets.steps.checks.vertices import check_samples
from aanet_assets.steps.vertices import vertex_samples
from aanet_assets.storage.files import write_json
from aanet_assets.study.layout import StudyPaths
from aanet_assets_tests.checks.damage import edit_arrays, edit_table, failures, put

PARTITION = vertex_samples.at(n=7)
HELDOUT, TRAINING = (2,), (0, 1)


def found(paths: StudyPaths, heldout=HELDOUT, training=TRAINING, n: int = 7) -> list[Finding]:
    return check_samples(paths, n, heldout, training)


def after(paths: StudyPaths, table: str, change) -> dict[str, str]:
    edit_table(paths, table, PARTITION, change)
    return failures(found(paths))


def in_list(column: str, value: object, place: int = 0):
    """A change of one entry of a list in the first row."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        entries = list(frame[column].iloc[0])
        entries[place] = value
        return put(column, entries)(frame)

    return change


def test_good_samples_pass(paths: StudyPaths) -> None:
    findings = found(paths)
    assert failures(findings) == {}
    assert findings[0].said.startswith("100 samples at 5 vertices of 2 selected clusters")


def test_that_there_are_no_samples_passes(paths: StudyPaths) -> None:
    assert failures(found(paths, n=6)) == {}


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (
            "vertex_samples",
            lambda frame: frame.iloc[:-1],
            "vertex 1 of cluster 3 has 19 samples, its statistics say 20, "
            "cluster_3_k2_categoryM_vertex_samples.jsonl has 40 lines",
        ),
        (
            "vertex_stats",
            put("samples", 21),
            "vertex 0 of cluster 0 has 20 samples, its statistics say 21",
        ),
        (
            "vertex_stats",
            lambda frame: frame.iloc[1:],
            "4 vertices have statistics, 5 must, "
            "vertex 0 of cluster 0 has 20 samples, its statistics say 0",
        ),
        (
            "vertex_stats",
            lambda frame: pd.concat([frame, frame.iloc[:1]]).assign(vertex_id=range(6)),
            "6 vertices have statistics, 5 must",
        ),
    ],
)
def test_counts(paths: StudyPaths, table: str, change, message: str) -> None:
    assert message in after(paths, table, change)["counts"]


def test_a_sample_of_a_vertex_without_statistics(paths: StudyPaths) -> None:
    said = after(paths, "vertex_samples", put("vertex_id", 8))
    assert "vertex 8 of cluster 0 has 1 samples, its statistics say 0" in said["counts"]
    assert "distances" in said, "there is no limit to hold it to"


def test_a_file_of_samples_is_missing(paths: StudyPaths) -> None:
    (
        paths.root / "selected_clusters" / "n7" / "cluster_0_k3_categoryM_vertex_samples.jsonl"
    ).unlink()
    said = failures(found(paths))
    assert "cluster_0_k3_categoryM_vertex_samples.jsonl has 0 lines" in said["counts"]


def test_a_manifest_without_a_cluster(paths: StudyPaths) -> None:
    path = paths.root / "selected_clusters" / "n7" / "manifest.json"
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"clusters": manifest["clusters"][:1]})
    assert "the manifest has 1 clusters" in failures(found(paths))["counts"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_list("trigger_token_indices", 17, place=-1), "in a chunk of 17"),
        (in_list("trigger_token_indices", -1), "in a chunk of 17"),
        (in_list("trigger_token_indices", 16), "each once and in order"),
        (in_list("trigger_token_ids", 99), "trigger tokens that are not the chunk's"),
        (in_list("trigger_words", "elsewhere"), "trigger token 'elsewhere' where the text says"),
        (in_list("trigger_text_words", ""), "trigger word '' where the text says"),
        (in_list("trigger_text_words", "elsewhere"), "trigger word 'elsewhere' where the text"),
        (in_list("trigger_text_words", None), "trigger word None at characters"),
        (in_list("trigger_token_starts", 0), "where the text says 'f"),
        (in_list("trigger_token_starts", None), "at characters nan to"),
        (in_list("trigger_token_ends", 999), "999 of"),
        (in_list("trigger_word_indices", 16), "trigger word 16 of 16 words"),
        (in_list("trigger_word_indices", -14), "trigger word -14 of 16 words"),
        (put("trigger_words", ["f1"]), "lists of unequal length"),
        (put("trigger_token_ends", [1]), "lists of unequal length"),
    ],
)
def test_triggers(paths: StudyPaths, change, message: str) -> None:
    said = after(paths, "vertex_samples", change)
    assert list(said) == ["triggers"]
    assert said["triggers"].startswith("1 of 100 samples")
    assert message in said["triggers"]


def test_a_sample_without_triggers(paths: StudyPaths) -> None:
    def emptied(frame: pd.DataFrame) -> pd.DataFrame:
        for column in ("distances_to_vertex", "trigger_token_indices", "trigger_token_ids",
                       "trigger_word_indices", "trigger_words", "trigger_text_words",
                       "trigger_token_starts", "trigger_token_ends"):  # fmt: skip
            frame = put(column, [])(frame)
        return frame

    assert "or empty ones" in after(paths, "vertex_samples", emptied)["triggers"]


def test_a_chunk_of_white_space_has_no_words(paths: StudyPaths) -> None:
    def blank(frame: pd.DataFrame) -> pd.DataFrame:
        n = len(frame["trigger_words"].iloc[0])
        for column, value in (("trigger_words", "\n"), ("trigger_text_words", ""),
                              ("trigger_token_starts", 1), ("trigger_token_ends", 2)):  # fmt: skip
            frame = put(column, [value] * n)(frame)
        return put("full_text", " \n ")(frame)

    assert after(paths, "vertex_samples", blank) == {}


def test_tokens_without_a_place_pass(paths: StudyPaths) -> None:
    def unplaced(frame: pd.DataFrame) -> pd.DataFrame:
        for column in ("trigger_text_words", "trigger_token_starts", "trigger_token_ends"):
            frame = put(column, [None] * len(frame["trigger_words"].iloc[0]))(frame)
        return frame

    assert after(paths, "vertex_samples", unplaced) == {}


def test_a_sample_that_stands_there_twice(paths: StudyPaths) -> None:
    def doubled(frame: pd.DataFrame) -> pd.DataFrame:
        # The first two rows of this cluster's vertex.
        own = frame[frame["vertex_id"] == frame["vertex_id"].iloc[0]].index[:2]
        rows = frame.to_dict("records")
        rows[own[1]] = rows[own[0]]
        return pd.DataFrame(rows)

    said = after(paths, "vertex_samples", doubled)
    assert "the chunk of another sample" in said["triggers"]


def test_texts_that_repeat_themselves_warn(paths: StudyPaths) -> None:
    def repeated(frame: pd.DataFrame) -> pd.DataFrame:
        return put("repeated_chunks", 599)(put("different_texts", 20)(frame))

    edit_table(paths, "vertex_stats", PARTITION, repeated)
    (failed,) = (finding for finding in found(paths) if not finding.passed)
    assert (failed.name, failed.blocking) == ("different_texts", False)
    assert failed.said.startswith("near 1 of 5 vertices, chunks that repeat a sample outnumber")
    assert "vertex 0 of cluster 0: 20 different texts, 599 chunks that repeat them" in failed.said


@pytest.mark.parametrize("distance", [-0.01, 0.51, np.nan])
def test_distances(paths: StudyPaths, distance: float) -> None:
    said = after(paths, "vertex_samples", in_list("distances_to_vertex", distance))
    assert list(said) == ["distances"]
    assert re.match(r"1 of \d+ distances from a vertex are out of range", said["distances"])


def test_a_distance_at_the_limit_passes(paths: StudyPaths) -> None:
    assert after(paths, "vertex_samples", in_list("distances_to_vertex", 0.5)) == {}


def test_samples_of_training_shards(paths: StudyPaths) -> None:
    failed = {
        finding.name: finding
        for finding in found(paths, heldout=(0,), training=(1, 2))
        if not finding.passed
    }
    assert failed["held_out"].blocking
    assert "sampled chunks are chunks of the held-out shards" in failed["held_out"].said
    assert not failed["unseen_in_training"].blocking
    assert re.search(
        r"\. (\d+) of \1 sampled chunks are such chunks", failed["unseen_in_training"].said
    )


def test_documents_that_stand_in_training_and_held_out_shards(paths: StudyPaths) -> None:
    with safe_open(SHARD.under(paths.root, shard=0), framework="numpy") as file:
        seen = file.get_tensor("tokens")[:300]

    def copied(arrays: dict[str, np.ndarray]) -> None:
        arrays["tokens"][-300:] = seen
        arrays["documents"][-300:] = np.repeat(np.arange(150), 2)

    edit_arrays(SHARD.under(paths.root, shard=2), copied)
    failed = failures(found(paths))["unseen_in_training"]
    said = re.match(r"(\d+) of 1,500 held-out chunks \(2[01]\.\d%\), of (\d+) documents", failed)
    assert said is not None, failed
    assert 300 <= int(said[1]) <= 310
    assert 150 <= int(said[2]) <= 160


def test_one_chunk_from_nowhere(paths: StudyPaths) -> None:
    said = after(paths, "vertex_samples", in_list("chunk_token_ids", 5))
    chunks = re.match(r"(\d+) of (\d+) sampled chunks", said["held_out"])
    assert chunks is not None
    assert int(chunks[1]) == int(chunks[2]) - 1
