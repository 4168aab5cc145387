"""Damaged samples, and samples that come from where they must not."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from aanet_assets.steps.activations import SHARD
from aanet_assets.steps.vertices import (
    MANIFEST,
    SAMPLES,
    VERTEX_SAMPLES,
    VERTEX_STATS,
    vertex_samples,
)
from aanet_assets.storage.files import write_json
from aanet_assets.storage.table import Table
from aanet_assets.study.study import Study
from aanet_assets_tests.checks.edits import complaints, edit_arrays, put
from aanet_assets_tests.outputs import change as edit
from aanet_assets_tests.outputs import findings

PARTITION = vertex_samples.at(n=7)


def after(study: Study, table: Table, change) -> dict[str, str]:
    edit(study, PARTITION, table, change)
    return complaints(study, PARTITION)


def in_list(column: str, value: object, place: int = 0):
    """A change of one entry of a list in the first row."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        entries = list(frame[column].iloc[0])
        entries[place] = value
        return put(column, entries)(frame)

    return change


def test_good_samples_pass(study: Study) -> None:
    assert complaints(study, PARTITION) == {}
    assert findings(study, PARTITION)["counts"].said.startswith(
        "100 samples at 5 vertices of 2 selected clusters"
    )


def test_that_there_are_no_samples_passes(study: Study) -> None:
    assert complaints(study, vertex_samples.at(n=6)) == {}


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (
            VERTEX_SAMPLES,
            lambda frame: frame.iloc[:-1],
            "vertex 1 of cluster 3 has 19 samples, its statistics say 20, "
            "cluster_3_k2_categoryM_vertex_samples.jsonl has 40 lines",
        ),
        (
            VERTEX_STATS,
            put("samples", 21),
            "vertex 0 of cluster 0 has 20 samples, its statistics say 21",
        ),
        (
            VERTEX_STATS,
            lambda frame: frame.iloc[1:],
            "4 vertices have statistics, 5 must, "
            "vertex 0 of cluster 0 has 20 samples, its statistics say 0",
        ),
        (
            VERTEX_STATS,
            lambda frame: pd.concat([frame, frame.iloc[:1]]).assign(vertex_id=range(6)),
            "6 vertices have statistics, 5 must",
        ),
    ],
)
def test_counts(study: Study, table: Table, change, message: str) -> None:
    assert message in after(study, table, change)["counts"]


def test_a_sample_of_a_vertex_without_statistics(study: Study) -> None:
    said = after(study, VERTEX_SAMPLES, put("vertex_id", 8))
    assert "vertex 8 of cluster 0 has 1 samples, its statistics say 0" in said["counts"]
    assert "distances" in said, "there is no limit to hold it to"


def test_a_file_of_samples_is_missing(study: Study) -> None:
    SAMPLES.under(study.paths.root, n=7, cluster_id=0, k=3, category="M").unlink()
    said = complaints(study, PARTITION)
    assert "cluster_0_k3_categoryM_vertex_samples.jsonl has 0 lines" in said["counts"]


def test_a_manifest_without_a_cluster(study: Study) -> None:
    path = MANIFEST.under(study.paths.root, n=7)
    manifest = json.loads(path.read_text())
    write_json(path, manifest | {"clusters": manifest["clusters"][:1]})
    assert "the manifest has 1 clusters" in complaints(study, PARTITION)["counts"]


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
def test_triggers(study: Study, change, message: str) -> None:
    said = after(study, VERTEX_SAMPLES, change)
    assert list(said) == ["triggers"]
    assert said["triggers"].startswith("1 of 100 samples")
    assert message in said["triggers"]


def test_a_sample_without_triggers(study: Study) -> None:
    def emptied(frame: pd.DataFrame) -> pd.DataFrame:
        for column in ("distances_to_vertex", "trigger_token_indices", "trigger_token_ids",
                       "trigger_word_indices", "trigger_words", "trigger_text_words",
                       "trigger_token_starts", "trigger_token_ends"):  # fmt: skip
            frame = put(column, [])(frame)
        return frame

    assert "or empty ones" in after(study, VERTEX_SAMPLES, emptied)["triggers"]


def test_a_chunk_of_white_space_has_no_words(study: Study) -> None:
    def blank(frame: pd.DataFrame) -> pd.DataFrame:
        n = len(frame["trigger_words"].iloc[0])
        for column, value in (("trigger_words", "\n"), ("trigger_text_words", ""),
                              ("trigger_token_starts", 1), ("trigger_token_ends", 2)):  # fmt: skip
            frame = put(column, [value] * n)(frame)
        return put("full_text", " \n ")(frame)

    assert after(study, VERTEX_SAMPLES, blank) == {}


def test_tokens_without_a_place_pass(study: Study) -> None:
    def unplaced(frame: pd.DataFrame) -> pd.DataFrame:
        for column in ("trigger_text_words", "trigger_token_starts", "trigger_token_ends"):
            frame = put(column, [None] * len(frame["trigger_words"].iloc[0]))(frame)
        return frame

    assert after(study, VERTEX_SAMPLES, unplaced) == {}


def test_a_sample_that_stands_there_twice(study: Study) -> None:
    def doubled(frame: pd.DataFrame) -> pd.DataFrame:
        # The first two rows of this cluster's vertex.
        own = frame[frame["vertex_id"] == frame["vertex_id"].iloc[0]].index[:2]
        rows = frame.to_dict("records")
        rows[own[1]] = rows[own[0]]
        return pd.DataFrame(rows)

    said = after(study, VERTEX_SAMPLES, doubled)
    assert "the chunk of another sample" in said["triggers"]


def test_texts_that_repeat_themselves_warn(study: Study) -> None:
    def repeated(frame: pd.DataFrame) -> pd.DataFrame:
        return put("repeated_chunks", 599)(put("different_texts", 20)(frame))

    edit(study, PARTITION, VERTEX_STATS, repeated)
    (failed,) = (finding for finding in findings(study, PARTITION).values() if not finding.passed)
    assert (failed.name, failed.blocking) == ("different_texts", False)
    assert failed.said.startswith("near 1 of 5 vertices, chunks that repeat a sample outnumber")
    assert re.search(
        r"vertex 0 of cluster 0: (\d+) samples, of the first \1 of which 0 are another one but for "
        "some words, and 599 chunks that repeat one",
        failed.said,
    )


def test_texts_that_differ_by_a_word_warn(study: Study) -> None:
    def alike(frame: pd.DataFrame) -> pd.DataFrame:
        return put("near_repeats", int(frame["samples"].iloc[0] * 0.6))(frame)

    edit(study, PARTITION, VERTEX_STATS, alike)
    (failed,) = (finding for finding in findings(study, PARTITION).values() if not finding.passed)
    assert (failed.name, failed.blocking) == ("different_texts", False)
    assert "are another one but for some words, and 0 chunks that repeat one" in failed.said


@pytest.mark.parametrize("distance", [-0.01, 0.51, np.nan])
def test_distances(study: Study, distance: float) -> None:
    said = after(study, VERTEX_SAMPLES, in_list("distances_to_vertex", distance))
    assert list(said) == ["distances"]
    assert re.match(r"1 of \d+ distances from a vertex are out of range", said["distances"])


def test_a_distance_at_the_limit_passes(study: Study) -> None:
    assert after(study, VERTEX_SAMPLES, in_list("distances_to_vertex", 0.5)) == {}


def test_samples_of_training_shards(study: Study) -> None:
    trained, heldout = (SHARD.under(study.paths.root, shard=shard) for shard in (0, 2))
    trained.rename(aside := trained.with_suffix(".aside"))
    heldout.rename(trained)
    aside.rename(heldout)
    found = findings(study, PARTITION)
    held_out, unseen = found["held_out"], found["unseen_in_training"]
    assert (held_out.passed, held_out.blocking) == (False, True)
    assert "sampled chunks are chunks of the held-out shards" in held_out.said
    assert (unseen.passed, unseen.blocking) == (False, False)
    assert re.search(r"\. (\d+) of \1 sampled chunks are such chunks", unseen.said)


def test_documents_that_stand_in_training_and_held_out_shards(study: Study) -> None:
    with safe_open(SHARD.under(study.paths.root, shard=0), framework="numpy") as file:
        seen = file.get_tensor("tokens")[:300]

    def copied(arrays: dict[str, np.ndarray]) -> None:
        arrays["tokens"][-300:] = seen
        arrays["documents"][-300:] = np.repeat(np.arange(150), 2)

    edit_arrays(SHARD.under(study.paths.root, shard=2), copied)
    failed = complaints(study, PARTITION)["unseen_in_training"]
    said = re.match(r"(\d+) of 1,500 held-out chunks \(2[01]\.\d%\), of (\d+) documents", failed)
    assert said is not None, failed
    assert 300 <= int(said[1]) <= 310
    assert 150 <= int(said[2]) <= 160


def test_one_chunk_from_nowhere(study: Study) -> None:
    said = after(study, VERTEX_SAMPLES, in_list("chunk_token_ids", 5))
    chunks = re.match(r"(\d+) of (\d+) sampled chunks", said["held_out"])
    assert chunks is not None
    assert int(chunks[1]) == int(chunks[2]) - 1
