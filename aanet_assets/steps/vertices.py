"""The models of the selected clusters, and the text near each of their vertices."""

from pathlib import Path

import dagster as dg

from aanet_assets.steps import pictures
from aanet_assets.steps.aanets import STACK, TRAINING_SETTINGS, aanet_models
from aanet_assets.steps.activations import activation_cache, heldout_shards, training_shards
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, ROWS, cluster_rows, clustering
from aanet_assets.steps.columns import AANET_K, CATEGORY, CLUSTER_ID, N_CLUSTERS_TOTAL
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, consolidated_metrics
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, flag, integer, listed, number, text
from aanet_assets.study.layout import File
from aanet_assets.study.study import Study

_STEM = "selected_clusters/n{n}/cluster_{cluster_id}_k{k}_category{category}"
MODEL, METADATA = File(f"{_STEM}.pt"), File(f"{_STEM}_metadata.json")
MODEL_CURVES = File(f"{_STEM}_curves.json")
_ENDINGS = ("_vertex_samples.jsonl", "_vertex_stats.json")
SAMPLES, STATS = (File(f"{_STEM}{ending}") for ending in _ENDINGS)
MANIFEST = File("selected_clusters/n{n}/manifest.json")
_VERTEX_ID = integer("vertex_id", "The vertex, from 0 on.")
VERTEX_STATS = Table(
    "vertex_stats",
    "One row per vertex of each selected cluster.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    AANET_K,
    CATEGORY,
    _VERTEX_ID,
    integer("samples", "Samples that were gathered."),
    integer("different_texts", "Different texts among them, however little they differ."),
    integer(
        "near_repeats",
        "Of the first 200 samples, those that are another but for a word.",
    ),
    integer("repeated_chunks", "Chunks that were passed over, being equal to one of the samples."),
    integer("target", "Samples that were wanted."),
    flag("reached_target", "Whether there are as many."),
    integer("tokens_seen", "Tokens that were looked at."),
    integer("heldout_chunks", "Held-out chunks that there are."),
    integer("chunks_in_training", "Of them, chunks that stand in training text, and are left out."),
    number("distance_threshold", "Barycentric distance under which a token is near its vertex."),
)
VERTEX_SAMPLES = Table(
    "vertex_samples",
    "One row per sample: a held-out chunk with tokens near a vertex. Lists run parallel.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    AANET_K,
    CATEGORY,
    _VERTEX_ID,
    integer("document", "Number of the chunk's document in the corpus."),
    integer("document_token", "Place of the chunk's first token in its document, BOS included."),
    listed(number("distances_to_vertex", "Barycentric distance of each token near the vertex.")),
    text("full_text", "The chunk, decoded."),
    listed(integer("chunk_token_ids", "Token ids of the chunk.")),
    listed(integer("trigger_token_indices", "Places in the chunk of the tokens near the vertex.")),
    listed(integer("trigger_token_ids", "Ids of these tokens.")),
    listed(integer("trigger_word_indices", "Words of the text up to each token, minus 1.")),
    listed(text("trigger_words", "The tokens near the vertex, decoded.")),
    listed(text("trigger_text_words", "Words of the text in which they stand.")),
    listed(integer("trigger_token_starts", "First character of each token in the text.")),
    listed(integer("trigger_token_ends", "One past its last character.")),
)


@step(
    ByN,
    group="3_vertices",
    job="stage3",
    kinds=("pytorch",),
    on_device=True,
    reads=(clustering, cluster_rows, aanet_models, consolidated_metrics, selected_clusters),
    settings=("refit", *TRAINING_SETTINGS),
    files=(MODEL, METADATA, MODEL_CURVES),
    code_version="3",
)
def refit_models(run: Run[ByN]) -> Outcome:
    """One AANet per selected cluster at its chosen k: trained afresh, or taken from stage 1.

    `refit.mode` decides. A fresh one finds its own extrema on a larger sample.
    """
    from aanet_assets.science.vertices import refit
    from aanet_assets.science.vertices.selected import chosen_of, remove_others

    study, n, cut = run.study, run.at.n, run.path(CLUSTERING)
    chosen, metrics = chosen_of(run.read(SELECTED_CLUSTERS)), run.read(CONSOLIDATED_METRICS)
    if study.refit.mode == "retrain":
        found = refit.retrained(study, n, chosen, run.path(ROWS), cut)
    else:
        found = refit.taken_from_stage1(chosen, lambda k: run.path(STACK, k=k))
    to = [[run.path(f, **c.named) for f in (MODEL, METADATA, MODEL_CURVES)] for c in chosen]
    files = refit.write_refits(study, n, chosen, found, cut, metrics, to)
    remove_others(run.folder(MODEL), (".pt", "_metadata.json", "_curves.json"), files)
    models = [{**one._asdict(), **own.told} for one, own in zip(chosen, found, strict=True)]
    shown = dg.MetadataValue.json(models) if models else "no cluster is selected"
    said = {"dagster/row_count": len(chosen), "mode": study.refit.mode, "models": shown}
    return Outcome(files, said)


@refit_models.checks(
    models="Every selected cluster, and no other, has a sound model or a reason why not.",
    warnings={"all_trained": "Every selected cluster has a model."},
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.science.vertices.selected import chosen_of
    from aanet_assets.steps.checks.refits import check_refits

    chosen = chosen_of(run.read(SELECTED_CLUSTERS))
    files = [(run.path(MODEL, **one.named), run.path(METADATA, **one.named)) for one in chosen]
    return check_refits(run.folder(MODEL), chosen, files)


def rewrite_manifest(study: Study) -> None:
    """Bring the manifest of all n_clusters up to date."""
    from aanet_assets.science.vertices.manifest import rewrite

    rewrite(study, manifests(study))


def manifests(study: Study) -> dict[int, Path]:
    """The manifests of those n_clusters that are there, by n_clusters.

    One whose file is gone is no longer there: it is made again, and others need not wait for it.
    """
    from aanet_assets.storage.records import fetch_files, read_record

    there = [each for each in vertex_samples.all_of(study) if read_record(study, each)]
    fetch_files(study, there)
    files = {each.at.n: MANIFEST.under(study.paths.root, n=each.at.n) for each in there}
    return {n: file for n, file in files.items() if file.is_file()}


@step(
    ByN,
    group="3_vertices",
    job="stage3",
    kinds=("json", "duckdb"),
    on_device=True,
    reads=(activation_cache, clustering, cluster_rows, selected_clusters, refit_models),
    settings=("model", "revision", "vertices", "cache.training_shards", "cache.heldout_shards"),
    tables=(VERTEX_STATS, VERTEX_SAMPLES),
    files=(SAMPLES, STATS, MANIFEST),
    code_version="4",
    afterwards=rewrite_manifest,
)
def vertex_samples(run: Run[ByN]) -> Outcome:
    """Text near each vertex of each selected cluster, from held-out tokens, with statistics.

    Held-out chunks that stand word for word in training text, too, are left out and counted. Writes
    the samples, the statistics and the manifest of the folder, and the same as tables.
    """
    import pandas as pd

    from aanet_assets.science.activations.corpus import load_tokenizer
    from aanet_assets.science.vertices import gather
    from aanet_assets.science.vertices.selected import chosen_of, remove_others
    from aanet_assets.storage.files import write_json

    study, n, clusters, cut = run.study, run.at.n, run.read(CLUSTERS), run.path(CLUSTERING)
    selection = [(one, _files(run, **one.named)) for one in chosen_of(run.read(SELECTED_CLUSTERS))]
    # One read of the held-out tokens serves all clusters, and none is needed without any.
    shards = (heldout_shards(run), training_shards(run)) if selection else ([], [])
    heldout = gather.unseen(*shards, clusters["norm_limit"].max())
    tokenizer = load_tokenizer(study) if selection else None
    found = gather.gather_samples(study, n, selection, clusters, cut, heldout, tokenizer)
    remove_others(run.folder(MANIFEST), _ENDINGS, found.files)
    manifest = gather.manifest_of(study, n, found, heldout)
    stats = pd.DataFrame(found.stats, columns=VERTEX_STATS.names)
    samples = pd.DataFrame(found.samples, columns=VERTEX_SAMPLES.names)
    tables = run.write(VERTEX_STATS, stats), run.write(VERTEX_SAMPLES, samples)
    written = [*found.files, write_json(run.path(MANIFEST), manifest), *tables]
    shown = {"outcome": manifest["note"], "vertices": pictures.table(stats)}
    return Outcome(written, {"dagster/row_count": len(samples), **shown})


def _files(run: Run[ByN], **named: int | str):
    from aanet_assets.science.vertices.gather import ClusterFiles

    return ClusterFiles(*(run.path(file, **named) for file in (MODEL, METADATA, SAMPLES, STATS)))


@vertex_samples.checks(
    counts="Table, statistics, files and manifest tell of the same samples.",
    triggers="Trigger tokens and words stand where the samples say, and no sample of a "
    "vertex repeats another.",
    distances="No sample is farther from its vertex than allowed.",
    held_out="Every sample comes from a held-out shard.",
    warnings={
        "unseen_in_training": "Samples do not repeat chunks of the training shards, and few "
        "held-out chunks do.",
        "different_texts": "Most chunks found near each vertex are different ones.",
    },
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.science.vertices.selected import chosen_of
    from aanet_assets.steps.checks.vertices import check_samples

    chosen = [(one, _files(run, **one.named)) for one in chosen_of(run.read(SELECTED_CLUSTERS))]
    tables = run.read(VERTEX_SAMPLES), run.read(VERTEX_STATS)
    shards = heldout_shards(run), training_shards(run)
    return check_samples(*tables, chosen, run.path(MANIFEST), *shards)
