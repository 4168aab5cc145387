"""For studies whose answer is known: what was recovered of it."""

from aanet_assets.steps import pictures
from aanet_assets.steps.aanets import STACK, aanet_models
from aanet_assets.steps.activations import (
    activation_cache,
    by_latent,
    codes_by_latent,
    heldout_shards,
    training_shards,
)
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, cluster_rows, clustering
from aanet_assets.steps.columns import N_CLUSTERS_TOTAL
from aanet_assets.steps.inputs import has_truth
from aanet_assets.steps.metrics import CONSOLIDATED_METRICS, consolidated_metrics
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Finding, Outcome, step
from aanet_assets.storage.table import Table, integer, number, text
from aanet_assets.study.layout import File

RECOVERY_PLOT = File("clusters_{n}/plots/recovery_n{n}.png")
RECOVERY = Table(
    "recovery",
    "How well clusters and AANets match a process's components, or the factors of a file.",
    N_CLUSTERS_TOTAL,
    text("component", "Component of the process, or factor of the file."),
    text("kind", "What its values are: beliefs of a kind of component, probabilities, or numbers."),
    integer("cluster_id", "The cluster that is matched with it."),
    number(
        "r2", "Held-out R^2 from the cluster's activations to the component's belief or values."
    ),
    number("token_r2", "The same from the current token alone."),
    number("leak", "Largest R^2 of the cluster for a component it is not matched with."),
    integer("true_k", "Vertices of the true simplex."),
    integer("recon_elbow_k", "Elbow of the cluster's reconstruction loss."),
    integer("arch_elbow_k", "Elbow of its archetypal loss."),
    number("barycentric_r2", "R^2 from barycentric coordinates at the true k to the belief."),
    number("vertex_purity", "Mean belief in one state near the least pure vertex."),
)


@step(
    ByN,
    group="4_truth",
    job="stage3",
    kinds=("pandas", "duckdb"),
    when=has_truth,
    reads=(activation_cache, codes_by_latent, clustering, cluster_rows, aanet_models,
           consolidated_metrics),
    settings=("truth.process", "truth.targets"),
    tables=(RECOVERY,),
    files=(RECOVERY_PLOT,),
)  # fmt: skip
def recovery(run: Run[ByN]) -> Outcome:
    """How well clusters and AANets match what is known of tokens, which nothing before has seen.

    Read `r2` beside `token_r2` (the same regression from the current token alone) and `leak` (the
    largest R^2 of a cluster for a component it is not matched with).
    """
    from aanet_assets.science.toy.observed import Models, observed
    from aanet_assets.science.toy.picture import write_recovery_plot
    from aanet_assets.science.toy.recovery import recover_observed, summary

    study, picture = run.study, run.path(RECOVERY_PLOT)
    shards = training_shards(run), heldout_shards(run)
    seen = observed(study, *shards, by_latent(run, study.shards))
    stacks = {k: run.path(STACK, k=k) for k in study.ks}
    models = Models(run.path(CLUSTERING), stacks, run.read(CLUSTERS), seen, study.aanet)
    table = recover_observed(seen, models, run.read(CONSOLIDATED_METRICS))
    table.insert(0, "n_clusters_total", run.at.n)
    write_recovery_plot(picture, seen.heldout, table, models.barycentric)
    shown = {"recovery": pictures.table(table), "simplices": pictures.thumbnail(picture)}
    files = [run.write(RECOVERY, table), picture]
    return Outcome(files, {"dagster/row_count": len(table), **summary(table), **shown})


@recovery.checks(
    complete="Every component has its row.",
    scores="Scores are at most 1.",
    drawn="The picture is a PNG file that shows something.",
)
def _(run: Run[ByN]) -> list[Finding]:
    from aanet_assets.science.toy.observed import names_of
    from aanet_assets.steps.checks.ground_truth import check_recovery
    from aanet_assets.steps.checks.plots import drawn

    names = names_of(run.study)
    return [*check_recovery(run.read(RECOVERY), names), drawn([run.path(RECOVERY_PLOT)])]
