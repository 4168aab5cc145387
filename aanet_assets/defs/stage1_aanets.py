"""Stage 1, from AANets on: models, metrics, the guide's table, plots.

Each function here does the work of one partition of the asset it is named for; its docstring is
the asset's description in Dagit.
"""

import logging

from aanet_assets.defs import pictures
from aanet_assets.defs.materialise import Outcome
from aanet_assets.defs.rows import training_rows
from aanet_assets.lineage import Partition
from aanet_assets.seeds import seed_for
from aanet_assets.study import Study
from aanet_assets.warehouse import read_table, write_table

log = logging.getLogger("aanet")


def aanet_models(study: Study, partition: Partition) -> Outcome:
    """One AANet per cluster at one k, trained together as a stack in the clusters' own subspaces.

    Kept as one safetensors file. The losses of every step go to the table `training_curves`.
    """
    import pandas as pd

    from aanet_assets.archetypes.data import LOSSES, Task
    from aanet_assets.archetypes.export import save_stack
    from aanet_assets.archetypes.train import train_aanets

    n, k = partition.n, partition.k
    assert n is not None
    assert k is not None
    tasks = [
        Task(cluster, k, seed_for(study.aanet.seed, study.name, n, cluster.cluster_id, k))
        for cluster in training_rows(study, n, k)
    ]
    models = train_aanets(tasks, study.aanet, study.device)
    path = study.paths.stack(n, k)
    save_stack(path, models)
    curves = [
        {
            "n_clusters_total": n,
            "cluster_id": model.cluster_id,
            "aanet_k": k,
            **{f"{name}_history": model.history.get(name, []) for name in LOSSES},
        }
        for model in models
    ]
    parquet = write_table(study.paths, "training_curves", partition, pd.DataFrame(curves))
    statuses = sorted({model.status for model in models})
    return Outcome(
        [path, parquet],
        {
            "dagster/row_count": n,
            "statuses": {name: sum(m.status == name for m in models) for name in statuses},
            "steps": sum(model.steps for model in models),
            "losses_over_steps": pictures.losses(models),
        },
    )


def aanet_exports(study: Study, partition: Partition) -> Outcome:
    """The AANets of all clusters at one k as plain state dicts at full width, one `.pt` file each.

    Written from the trained stack: switching `aanet.export_pt` off or on trains nothing. Where it
    is off, the files that were there are removed.
    """
    from aanet_assets.archetypes.export import load_stack, save_pt, state_dict
    from aanet_assets.cache.rows import load_cluster

    n, k = partition.n, partition.k
    assert n is not None
    assert k is not None
    files = []
    for model in load_stack(study.paths.stack(n, k)):
        path = study.paths.model(n, model.cluster_id, k)
        if study.aanet.export_pt and model.status == "ok":
            cluster = load_cluster(study.paths.clustering(n), model.cluster_id)
            save_pt(path, state_dict(model, cluster.basis))
            files.append(path)
        else:
            path.unlink(missing_ok=True)
    return Outcome(files, {"dagster/row_count": len(files), "export_pt": study.aanet.export_pt})


def aanet_metrics(study: Study, partition: Partition) -> Outcome:
    """Losses and status of every cluster at one k; a cluster that could not be trained has its row.

    The four losses are medians over the last recorded steps; `heldout_` columns are measured
    without noise on rows that were kept out of training.
    """
    import pandas as pd

    from aanet_assets.archetypes.data import LOSSES
    from aanet_assets.archetypes.export import load_stack

    n, k = partition.n, partition.k
    assert n is not None
    assert k is not None
    metrics = []
    for model in load_stack(study.paths.stack(n, k)):
        losses, heldout = model.losses or {}, model.heldout or {}
        metrics.append(
            {
                "n_clusters_total": n,
                "cluster_id": model.cluster_id,
                "aanet_k": k,
                "aanet_status": model.status,
                "aanet_reason": model.reason,
                **{f"aanet_{name}": losses.get(name) for name in LOSSES},
                "n_rows": model.n_rows,
                "steps": model.steps,
                **{
                    f"heldout_{name}": heldout.get(name)
                    for name in ("loss", "recon_loss", "archetypal_loss", "explained_variance",
                                 "in_simplex")
                },
            }
        )  # fmt: skip
    frame = pd.DataFrame(metrics)
    file = write_table(study.paths, "aanet_metrics", partition, frame)
    return Outcome([file], {"dagster/row_count": n, "metrics": pictures.table(frame)})


def consolidated_metrics(study: Study, partition: Partition) -> Outcome:
    """The guide's table: one row per cluster and k, with elbows, ranks and qualities; CSV and SQL.

    Writes the training curves of the same clusters as JSON lines, too. Elbows need three ks.
    """
    from aanet_assets.analysis.consolidate import consolidate, write_csv
    from aanet_assets.analysis.curves import write_curves
    from aanet_assets.analysis.elbows import too_few_ks

    n = partition.n
    assert n is not None
    grid = [Partition("aanet_metrics", n=n, k=k) for k in study.ks]
    clusters = read_table(study.paths, "clusters", Partition("cluster_rows", n=n))
    average_l0 = float(clusters["average_l0"].iloc[0])
    table = consolidate(
        read_table(study.paths, "aanet_metrics", *grid).drop(columns="n_clusters_total"),
        clusters,
        n_clusters=n,
        sae_id=study.sae.name,
        average_l0=average_l0,
    )
    warning = too_few_ks(study.ks, study.selection.mode)
    if warning:
        log.warning(warning)
    write_csv(table, study.paths.metrics_csv(n))
    write_curves(read_table(study.paths, "training_curves", *grid), study.paths.curves(n))
    parquet = write_table(study.paths, "consolidated_metrics", partition, table)
    return Outcome(
        [study.paths.metrics_csv(n), study.paths.curves(n), parquet],
        {
            "dagster/row_count": len(table),
            **({"warning": warning} if warning else {}),
            "average_l0": average_l0,
            "elbow_curves": pictures.elbow_curves(table),
            "elbows": pictures.table(
                table.drop_duplicates("cluster_id")[
                    ["cluster_id", "n_latents", "decoder_dir_rank", "activation_pca_rank",
                     "aanet_recon_loss_elbow_k", "aanet_recon_loss_elbow_strength",
                     "aanet_archetypal_loss_elbow_k", "aanet_archetypal_loss_elbow_strength"]
                ].set_axis(
                    ["cluster", "latents", "rank", "PCA rank", "recon elbow", "strength",
                     "arch. elbow", "strength "],
                    axis=1,
                )
            ),
        },
    )  # fmt: skip


def analysis_plots(study: Study, partition: Partition) -> Outcome:
    """The five plots to review before choosing thresholds; full size on disk, small ones here."""
    from aanet_assets.analysis.plots import write_plots

    n = partition.n
    assert n is not None
    table = read_table(study.paths, "consolidated_metrics", Partition("consolidated_metrics", n=n))
    files = write_plots(table, study.selection, n, study.paths.plots(n))
    shown = {file.stem: pictures.thumbnail(file) for file in files}
    return Outcome(files, {"dagster/row_count": table["cluster_id"].nunique(), **shown})
