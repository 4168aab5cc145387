"""What the model does with each cluster's simplex, all of it in one table, beside null clusters."""

from aanet_assets.steps.belief import (
    BARYCENTRIC_PREDICTION,
    BELIEF_UPDATE,
    KL_EXPLAINED,
    KL_EXPLAINED_HIGH,
    KL_EXPLAINED_LOW,
    OF_CLUSTER,
    PREDICTION_R2,
    SIMPLEX_FITS,
    TWO_STEP_R2,
    UNAVAILABLE,
    barycentric_prediction,
    belief_update,
    outcome,
    require_rows,
    simplex_fits,
    uses_belief,
)
from aanet_assets.steps.edits import (
    CONTEXT,
    INT_R2,
    INTERVENTIONAL_MIXTURE,
    MOVED,
    REACHED,
    VERTEX_STEERING,
    interventional_mixture,
    vertex_steering,
)
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome, step
from aanet_assets.storage.table import Table, number

FUNCTIONAL_EVIDENCE = Table(
    "functional_evidence",
    "What the model does with each cluster's simplex, compared with null clusters.",
    *OF_CLUSTER,
    KL_EXPLAINED,
    KL_EXPLAINED_LOW,
    KL_EXPLAINED_HIGH,
    PREDICTION_R2,
    TWO_STEP_R2,
    INT_R2,
    CONTEXT,
    MOVED,
    REACHED,
    *(
        number(f"{name}_{letter}", f"{letter}-value of {name} among null clusters of like size.")
        for name in ("kl_explained", "prediction_r2", "two_step_r2", "int_r2", "moved")
        for letter in "pq"
    ),
    UNAVAILABLE,
)


@step(
    ByN,
    group="1f_belief",
    job="stage1_belief",
    kinds=("scipy", "duckdb"),
    when=uses_belief,
    reads=(simplex_fits, barycentric_prediction, belief_update, interventional_mixture,
           vertex_steering),
    tables=(FUNCTIONAL_EVIDENCE,),
    code_version="2",
)  # fmt: skip
def functional_evidence(run: Run[ByN]) -> Outcome:
    """What the model does with each cluster's simplex, with p- and q-values against null ones."""
    from aanet_assets.science.belief.evidence import gather

    tables = (BARYCENTRIC_PREDICTION, BELIEF_UPDATE, INTERVENTIONAL_MIXTURE, VERTEX_STEERING)
    table = gather(run.read(SIMPLEX_FITS), [run.read(one) for one in tables])
    return outcome(run, FUNCTIONAL_EVIDENCE, table)


require_rows(functional_evidence, "Every cluster, real or null, has one row.")
