"""The networks: trained as stacks, exported one by one, measured."""

from collections import Counter

from aanet_assets.steps import pictures
from aanet_assets.steps.clusters import CLUSTERING, ROWS, cluster_rows, clustering
from aanet_assets.steps.columns import (
    AANET_K,
    AANET_LOSSES,
    AANET_STATUS,
    CLUSTER_ID,
    LOSS_HISTORIES,
    N_CLUSTERS_TOTAL,
    TRAINING,
)
from aanet_assets.storage.partitions import ByNK
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table
from aanet_assets.study.layout import File
from aanet_assets.study.settings import AANetSettings

STACK = File("clusters_{n}/aanets_k{k}.safetensors")
EXPORT = File("clusters_{n}/aanet_cluster_{cluster_id}_k{k}.pt")
TRAINING_CURVES = Table(
    "training_curves",
    "Losses of every step of training; one row per cluster and k.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    AANET_K,
    *LOSS_HISTORIES,
)
AANET_METRICS = Table(
    "aanet_metrics",
    "Losses and status of every cluster at one k.",
    N_CLUSTERS_TOTAL,
    CLUSTER_ID,
    AANET_K,
    AANET_STATUS,
    *AANET_LOSSES,
    *TRAINING,
)
# What is exported is a matter of its own, and trains nothing.
TRAINING_SETTINGS = tuple(
    f"aanet.{name}" for name in AANetSettings.model_fields if name != "export_pt"
)
# An AANet of more archetypes than the rows have extrema finds its own as the rows did.
STAGE1_SETTINGS = (*TRAINING_SETTINGS, "extrema", "rows.seed")


@step(
    ByNK,
    group="1c_aanets",
    job="stage1_grid",
    kinds=("pytorch",),
    on_device=True,
    reads=(clustering, cluster_rows),
    settings=STAGE1_SETTINGS,
    tables=(TRAINING_CURVES,),
    files=(STACK,),
    code_version="3",
)
def aanet_models(run: Run[ByNK]) -> Outcome:
    """One AANet per cluster at one k, trained together as a stack in the clusters' own subspaces.

    Kept as one safetensors file. The losses of every step go to the table `training_curves`.
    """
    from aanet_assets.science.aanet.data import tasks_of
    from aanet_assets.science.aanet.export import save_stack
    from aanet_assets.science.aanet.results import curve_rows
    from aanet_assets.science.aanet.train import train_aanets
    from aanet_assets.science.activations.rows import load_training_rows

    study, n, k = run.study, run.at.n, run.at.k
    rows = load_training_rows(study, n, k, run.path(ROWS), run.path(CLUSTERING))
    models = train_aanets(tasks_of(study, n, k, rows), study.aanet, study.device)
    save_stack(run.path(STACK), models)
    curves = run.write(TRAINING_CURVES, curve_rows(n, k, models))
    return Outcome(
        [run.path(STACK), curves],
        {
            "dagster/row_count": n,
            "statuses": dict(sorted(Counter(model.status for model in models).items())),
            "steps": sum(model.steps for model in models),
            "started_at_random": sum(model.start.startswith("random") for model in models),
            "losses_over_steps": pictures.losses(models),
        },
    )


@aanet_models.checks(
    complete="Every cluster has a status.",
    weights_finite="Trained models have finite weights; the others have a reason.",
    some_trained="Training did not fail for every cluster that has rows enough.",
    warnings={
        "beats_the_mean": "Models predict held-out rows better than the mean of the training rows.",
    },
)
def _(run: Run[ByNK]) -> list[Finding]:
    from aanet_assets.steps.checks.aanets import check_models

    return check_models(run.path(STACK), run.at.n, run.at.k)


@step(
    ByNK,
    group="1c_aanets",
    job="stage1_grid",
    kinds=("pytorch",),
    reads=(clustering, aanet_models),
    settings=("aanet.export_pt",),
    files=(EXPORT,),
)
def aanet_exports(run: Run[ByNK]) -> Outcome:
    """The AANets of all clusters at one k as plain state dicts at full width, one `.pt` file each.

    Written from the trained stack: switching `aanet.export_pt` off or on trains nothing. Where it
    is off, the files that were there are removed.
    """
    from aanet_assets.science.aanet.export import load_stack, save_pt, state_dict
    from aanet_assets.science.activations.rows import load_cluster

    files, wanted = [], run.study.aanet.export_pt
    for model in load_stack(run.path(STACK)):
        path = run.path(EXPORT, cluster_id=model.cluster_id)
        if wanted and model.status == "ok":
            basis = load_cluster(run.path(CLUSTERING), model.cluster_id).basis
            save_pt(path, state_dict(model, basis))
            files.append(path)
        else:
            path.unlink(missing_ok=True)
    return Outcome(files, {"dagster/row_count": len(files), "export_pt": wanted})


@aanet_exports.checks(
    exported="Every trained model, and no other, has its .pt file; none, where they are "
    "switched off.",
)
def _(run: Run[ByNK]) -> list[Finding]:
    from aanet_assets.steps.checks.aanets import check_exports

    files = [run.path(EXPORT, cluster_id=i) for i in range(run.at.n)]
    return [check_exports(run.path(STACK), files, run.study.aanet.export_pt)]


@step(
    ByNK,
    group="1c_aanets",
    job="stage1_grid",
    kinds=("parquet", "duckdb"),
    reads=(aanet_models,),
    tables=(AANET_METRICS,),
)
def aanet_metrics(run: Run[ByNK]) -> Outcome:
    """Losses and status of every cluster at one k; a cluster that could not be trained has its row.

    The four losses are medians over the last recorded steps; `heldout_` columns are measured
    without noise on rows that were kept out of training.
    """
    from aanet_assets.science.aanet.export import load_stack
    from aanet_assets.science.aanet.results import metric_rows

    table = metric_rows(run.at.n, run.at.k, load_stack(run.path(STACK)))
    shown = {"dagster/row_count": run.at.n, "metrics": pictures.table(table)}
    return Outcome([run.write(AANET_METRICS, table)], shown)


@aanet_metrics.checks(
    complete="Every cluster has one row.",
    losses="Losses are not negative, and are there where training succeeded.",
    shares="Shares and explained variances are in range.",
)
def _(run: Run[ByNK]) -> list[Finding]:
    from aanet_assets.steps.checks.metrics import check_metrics

    return check_metrics(run.read(AANET_METRICS), run.at.n, run.at.k)
