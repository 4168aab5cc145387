"""What the model predicts with what a cluster writes at one token put elsewhere in its simplex."""

from typing import TYPE_CHECKING

from aanet_assets.steps.belief import (
    HAS_NUMBERS,
    OF_CLUSTER,
    UNAVAILABLE,
    groups_of_tokens,
    outcome,
    placed_clusters,
    placed_step,
    require_rows,
)
from aanet_assets.steps.inputs import language_model
from aanet_assets.storage.partitions import ByN
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Outcome, Step
from aanet_assets.storage.table import Table, integer, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from aanet_assets.science.belief.editor import Editor
    from aanet_assets.science.belief.heldout import Heldout

INT_R2 = number("int_r2", "R^2 of predictions under edits by a mixture of those at the vertices.")
CONTEXT = number("context", "Share of their variance that is due to the token that was edited.")
MOVED = number("moved", "Mean divergence by which edits move predictions, in nats.")
REACHED = number("reached", "Share of the way to what follows at the vertex that was steered to.")
INTERVENTIONAL_MIXTURE = Table(
    "interventional_mixture",
    "Whether predictions follow coordinates that are put in place of a token's own.",
    *OF_CLUSTER,
    integer("tokens", "Tokens that were edited."),
    INT_R2,
    CONTEXT,
    MOVED,
    UNAVAILABLE,
)
VERTEX_STEERING = Table(
    "vertex_steering",
    "Tokens near one vertex put at every other: how far predictions go to what follows there.",
    *OF_CLUSTER,
    integer("tokens", "Tokens that were steered."),
    REACHED,
    number("kl_before", "Mean divergence from what follows there, in nats, before."),
    number("kl_after", "The same after."),
    number("random", "Share of the way by a random direction of the same length."),
    number("random_in_span", "The same by one within the cluster's subspace."),
    number("removed", "The same with nothing in the place of what the cluster writes."),
    number("other_cluster", "The same along an edge of another cluster's simplex."),
    number("true_reached", "Share of the way to the exact distribution of a known state."),
    number("true_kl_after", "Divergence from that after steering, in nats."),
    UNAVAILABLE,
)
VERTEX_KL = Table(
    "vertex_kl",
    "How far predictions near different vertices are apart, in nats: one token per document.",
    *OF_CLUSTER,
    integer("tokens", "Tokens that were compared."),
    number("between", "Mean divergence of pairs near different vertices."),
    number("within", "Of pairs near one vertex."),
    number("same_token_between", "Of pairs of equal tokens near different vertices."),
    number("same_token_within", "Of pairs of equal tokens near one vertex."),
    UNAVAILABLE,
)


def edit_step(
    *tables: Table, settings: tuple[str, ...]
) -> "Callable[[Callable[[Run[ByN]], Outcome]], Step[ByN]]":
    """Declare a step that edits single tokens and runs the layers above them.

    Args:
        settings: beside those of all such steps.
    """
    return placed_step(
        *tables,
        settings=("model", "revision", "dtype", "sae", *settings),
        library="pytorch",
        reads=(language_model,),
        on_device=True,
    )


def editor_of(run: Run[ByN], heldout: "Heldout") -> "Editor":
    """What runs the layers above edited held-out tokens."""
    from aanet_assets.science.belief.editor import Editor

    return Editor(run.study, heldout, groups_of_tokens(run))


@edit_step(INTERVENTIONAL_MIXTURE, settings=("belief.edited_tokens", "belief.edit_points"))
def interventional_mixture(run: Run[ByN]) -> Outcome:
    """Whether predictions follow coordinates that are put in place of a token's own.

    What the cluster writes at one token is replaced by points of its simplex, and the layers above
    are run: predictions must be mixtures of those at the vertices, and hardly depend on the token.
    """
    from aanet_assets.science.belief.tables import edit_rows

    heldout, simplices, _ = placed_clusters(run)
    editor = editor_of(run, heldout)
    rows = edit_rows(heldout, simplices, run.study.belief_settings, editor)
    return outcome(run, INTERVENTIONAL_MIXTURE, rows)


require_rows(interventional_mixture, HAS_NUMBERS)


@edit_step(VERTEX_STEERING, settings=("belief.near_tokens", "truth.process"))
def vertex_steering(run: Run[ByN]) -> Outcome:
    """Tokens near one vertex, put at every other: how far predictions go to what follows there.

    Beside it: random directions, another cluster's, and nothing in the place of what is written.
    Null clusters reach their own vertices, too; it is the size of the effect that steering tells.
    """
    from aanet_assets.science.belief.tables import steering_rows

    heldout, simplices, truth = placed_clusters(run)
    editor = editor_of(run, heldout)
    rows = steering_rows(heldout, simplices, run.study.belief_settings, editor, truth)
    return outcome(run, VERTEX_STEERING, rows)


require_rows(vertex_steering, HAS_NUMBERS)


@placed_step(VERTEX_KL, settings=("belief.near_tokens",), library="numpy")
def vertex_kl(run: Run[ByN]) -> Outcome:
    """How far predictions near different vertices are apart: one token per document."""
    from aanet_assets.science.belief.tables import contrast_rows

    heldout, simplices, _ = placed_clusters(run)
    rows = contrast_rows(heldout, simplices, run.study.belief_settings)
    return outcome(run, VERTEX_KL, rows)


require_rows(vertex_kl, HAS_NUMBERS)
