"""The checks that each step must pass before its partition counts, as Dagster knows them.

Numerical libraries are imported inside the functions: the definitions load without them.
"""

import warnings
from collections.abc import Callable, Mapping

import dagster as dg

from aanet_assets.checks.described import BLOCKING, WARNING
from aanet_assets.checks.finding import Finding
from aanet_assets.defs.partitions import partitions_def
from aanet_assets.lineage import Partition, Step
from aanet_assets.study import Study


def _corpus(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.truth import check_corpus
    from aanet_assets.toy.process import PROCESSES

    assert study.truth is not None
    cache, process = study.cache, PROCESSES[study.truth.process]
    documents = (cache.training_shards + cache.heldout_shards) * cache.documents_per_shard
    path = study.paths.corpus / "corpus.parquet"
    return check_corpus(path, process, documents, cache.seq_len - 1)


def _language_model(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.local import check_language_model

    return check_language_model(study)


def _prose(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.local import check_prose

    return check_prose(study.paths.prose)


def _sae(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.local import check_sae

    return check_sae(study.paths.sae)


def _sae_fit(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.activations import check_fit

    return check_fit(study.paths, study.fit)


def _activation_cache(study: Study, partition: Partition) -> list[Finding]:
    import tempfile
    from pathlib import Path

    from aanet_assets.checks.activations import check_shard, special_ids_in
    from aanet_assets.lm.corpus import load_tokenizer
    from aanet_assets.study import resolve

    assert partition.shard is not None
    folder = resolve(study.model)
    with tempfile.TemporaryDirectory() as scratch:
        if not (folder / "tokenizer.json").is_file():
            folder = Path(scratch)
            load_tokenizer(study).save_pretrained(folder)
        special = special_ids_in(folder)
    path = study.paths.shard(partition.shard)
    return check_shard(path, study.cache.seq_len, special, study.cache.activity_threshold)


def _clustering(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.clusters import activity_rates, check_clustering
    from aanet_assets.lm.sae import decoder_rows, load_sae

    n = _n(partition)
    activity = activity_rates(study.paths.shard(shard) for shard in study.training_shards)
    decoder = decoder_rows(load_sae(study.sae))
    return check_clustering(study.paths.clustering(n), n, decoder, activity, study.clustering)


def _cluster_rows(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.rows import check_rows

    return check_rows(study.paths, _n(partition), study.rows)


def _aanet_models(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.aanets import check_models

    assert partition.k is not None
    return check_models(study.paths, _n(partition), partition.k)


def _aanet_exports(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.aanets import check_exports

    assert partition.k is not None
    return [check_exports(study.paths, _n(partition), partition.k, study.aanet.export_pt)]


def _aanet_metrics(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.metrics import check_metrics

    assert partition.k is not None
    return check_metrics(study.paths, _n(partition), partition.k)


def _consolidated_metrics(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.metrics import check_consolidated

    return check_consolidated(study.paths, _n(partition), study.ks)


def _analysis_plots(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.plots import check_plots

    return check_plots(study.paths.plots(_n(partition)), _n(partition))


def _selected_clusters(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.selection import check_selection

    return check_selection(study.paths, _n(partition), study.ks, study.selection.mode)


def _refit_models(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.refits import check_refits

    return check_refits(study.paths, _n(partition))


def _vertex_samples(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.vertices import check_samples

    return check_samples(study.paths, _n(partition), study.heldout_shards, study.training_shards)


def _reproducibility(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.plots import drawn

    n = _n(partition)
    return [drawn([study.paths.plots(n) / f"reproducibility_n{n}.png"])]


def _review_page(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.review import check_page

    return check_page(study.paths.review(_n(partition)), _n(partition))


def _null_clusters(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.trust import check_nulls

    return check_nulls(study.paths, _n(partition), study.trust.nulls)


def _cluster_shapes(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.trust import check_shapes

    return check_shapes(study.paths, _n(partition), study.ks, study.trust.chance)


def _replicates(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.trust import check_replicates

    assert partition.k is not None
    return check_replicates(study.paths, _n(partition), partition.k, study.trust)


def _evidence(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.trust import check_evidence

    return check_evidence(study.paths, _n(partition), study.ks)


def _recovery(study: Study, partition: Partition) -> list[Finding]:
    from aanet_assets.checks.truth import check_recovery
    from aanet_assets.toy.process import PROCESSES

    assert study.truth is not None
    return check_recovery(study.paths, _n(partition), PROCESSES[study.truth.process])


def _n(partition: Partition) -> int:
    assert partition.n is not None
    return partition.n


CHECKS: Mapping[str, Callable[[Study, Partition], list[Finding]]] = {
    "corpus": _corpus,
    "language_model": _language_model,
    "prose": _prose,
    "sae": _sae,
    "sae_fit": _sae_fit,
    "activation_cache": _activation_cache,
    "clustering": _clustering,
    "cluster_rows": _cluster_rows,
    "aanet_models": _aanet_models,
    "aanet_exports": _aanet_exports,
    "aanet_metrics": _aanet_metrics,
    "consolidated_metrics": _consolidated_metrics,
    "analysis_plots": _analysis_plots,
    "reproducibility": _reproducibility,
    "review_page": _review_page,
    "null_clusters": _null_clusters,
    "cluster_shapes": _cluster_shapes,
    "replicates": _replicates,
    "evidence": _evidence,
    "selected_clusters": _selected_clusters,
    "refit_models": _refit_models,
    "vertex_samples": _vertex_samples,
    "recovery": _recovery,
}
"""The checks of each step, by its name; each reads what the step has just written."""


def check_specs(study: Study, step: Step) -> list[dg.AssetCheckSpec]:
    """The checks of a step as Dagster knows them: one result per partition each."""
    partitions, blocking = partitions_def(study, step.partitions), BLOCKING[step.name]
    with warnings.catch_warnings():
        # Checks with partitions are new in Dagster; this tells its users, not the project's.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                name,
                asset=[study.name, step.name],
                description=description,
                blocking=name in blocking,
                partitions_def=partitions,
            )
            for name, description in {**blocking, **WARNING.get(step.name, {})}.items()
        ]


def check_result(finding: Finding) -> dg.AssetCheckResult:
    """What Dagit shows of a finding."""
    return dg.AssetCheckResult(
        check_name=finding.name,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR if finding.blocking else dg.AssetCheckSeverity.WARN,
        description=finding.said,
    )
