"""What is asked of the model about each cluster, real or null, as rows of tables.

Where a statistic cannot be had, its columns are null and `unavailable` says why.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from aanet_assets.science.aanet.export import aanet_of, load_stack, state_dict
from aanet_assets.science.activations.rows import load_rows
from aanet_assets.science.belief import edits, mixture, update
from aanet_assets.science.belief.edits import Edited
from aanet_assets.science.belief.heldout import (
    Heldout,
    Placed,
    Simplex,
    placed,
    spread,
    tensor_name,
)
from aanet_assets.science.belief.measures import UnjudgedError, all_divergences
from aanet_assets.science.belief.simplices import (
    agreement,
    barycentric,
    enclosing_vertices,
    projected_vertices,
)
from aanet_assets.study.progress import Progress
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import BeliefSettings
from aanet_assets.study.study import Study
from aanet_assets.study.threads import in_threads

if TYPE_CHECKING:
    from aanet_assets.science.belief.editor import Editor
    from aanet_assets.science.toy.truth import Truth

RESAMPLINGS = 400
"""Of documents, for an interval."""
FEWEST = 100
"""Tokens of a cluster in either half of the documents, under which it is not judged."""


def fitted(
    study: Study,
    n: int,
    shapes: pd.DataFrame,
    rows: Mapping[bool, tuple[Path, Path]],
    stacks: Mapping[int, Path],
) -> tuple[pd.DataFrame, dict[str, Float[np.ndarray, "k rank"]]]:
    """The simplex of each cluster at the k that fits best, beside two others.

    Args:
        shapes: the table `cluster_shapes`.
        rows: files of rows and of the clustering, of real (False) and null (True) clusters.
        stacks: AANets of each k.

    Returns: a row per cluster, and the vertices in its subspace, by name of the tensor.
    """
    keys = ["null_cluster", "cluster_id"]
    best = shapes.sort_values([*keys, "fit", "k"], ascending=[True, True, False, True])
    best = best.drop_duplicates(keys)
    networks = {k: {m.cluster_id: m for m in load_stack(path)} for k, path in stacks.items()}
    table, found = [], {}
    progress = Progress(len(best), "clusters", f"simplices, n_clusters {n}")
    for row in best.to_dict("records"):
        cluster_id, null_cluster, k = int(row["cluster_id"]), bool(row["null_cluster"]), row["k"]
        said: dict[str, Any] = {name: row[name] for name in (*keys, "n_latents", "k", "fit")}
        progress.advance()
        if pd.isna(k):
            table.append({**said, "unavailable": "no simplex: its rows do not vary"})
            continue
        (own,) = load_rows(*rows[null_cluster], [cluster_id])
        points = own.train.astype(np.float64)
        most = study.controls.shape_rows
        if len(points) > most:
            seed = seed_for(study.rows.seed, study.name, n, "simplex", null_cluster, cluster_id)
            chosen = np.random.default_rng(seed).choice(len(points), most, replace=False)
            points = points[chosen]
        try:
            vertices = enclosing_vertices(points, int(k), study.controls)
        except ValueError as error:
            table.append({**said, "unavailable": f"no simplex: {error}"})
            continue
        found[tensor_name(cluster_id, null_cluster=null_cluster)] = vertices
        coordinates = barycentric(points, vertices)
        others = {"agreement_spa": projected_vertices(points, int(k))}
        model = None if null_cluster else networks.get(int(k), {}).get(cluster_id)
        if model is not None and model.status == "ok":
            net = aanet_of(state_dict(model, own.basis), study.aanet.simplex_scale)
            wide = net.decode(net.vertices).detach().numpy()
            others["agreement_aanet"] = wide.astype(np.float64) @ own.basis
        for name, theirs in others.items():
            said[name] = agreement(coordinates, barycentric(points, theirs))
        table.append({**said, "unavailable": ""})
    return pd.DataFrame(table), found


def prediction_rows(
    heldout: Heldout, simplices: Iterable[Simplex], belief: BeliefSettings, truth: "Truth | None"
) -> Iterator[dict[str, Any]]:
    """Whether predictions are mixtures over the vertices; on toys, coordinates beside beliefs."""

    def row(simplex: Simplex, here: Placed) -> dict[str, Any]:
        some = here.some(belief.scored_tokens, belief.seed)
        p, documents = heldout.p[some.tokens].astype(np.float64), heldout.documents[some.tokens]
        require_both_halves(documents)
        ids = heldout.token_ids[some.tokens]
        # Null clusters are compared with by their statistics alone.
        draws = 0 if simplex.null_cluster else RESAMPLINGS
        scores = mixture.prediction_scores(some.coordinates, p, ids, documents, belief.seed, draws)
        found: dict[str, Any] = {"tokens": len(here.tokens), **scores._asdict()}
        if not simplex.null_cluster:
            members = heldout.codes[some.tokens][:, simplex.cluster.latents].toarray()
            above = mixture.latent_scores(members.astype(np.float64), p, documents)
            found |= {**above._asdict(), "sufficiency": mixture.sufficiency(scores, above)}
            if truth is not None and (match := truth.match(here.tokens, here.coordinates)):
                found |= {"component": match.name, "belief_r2": match.r2}
        return found

    return _rows(heldout, simplices, row, "predictions")


def update_rows(
    heldout: Heldout, simplices: Iterable[Simplex], belief: BeliefSettings, truth: "Truth | None"
) -> Iterator[dict[str, Any]]:
    """Whether coordinates update as the beliefs of a hidden Markov chain do."""

    def row(simplex: Simplex, here: Placed) -> dict[str, Any]:
        steps, groups = _steps(heldout, here, belief)
        p = heldout.p[np.ix_(here.tokens, np.asarray(groups, int))].astype(np.float64)
        scores = update.update_scores(steps, p, groups)
        found: dict[str, Any] = {"tokens": len(here.tokens), "operators": len(groups)}
        found |= scores._asdict()
        if np.isnan(scores.two_step_r2):
            found["unavailable"] = f"fewer than {update.FEWEST} pairs of steps have operators"
        if truth is not None and not simplex.null_cluster:
            match = truth.match(here.tokens, here.coordinates)
            if match is not None:
                t = update.operators(steps, groups)
                found["operator_error"] = truth.operator_error(match, t, groups)
        return found

    return _rows(heldout, simplices, row, "updates")


def chain_rows(
    heldout: Heldout, simplices: Iterable[Simplex], belief: BeliefSettings, truth: "Truth | None"
) -> Iterator[dict[str, Any]]:
    """The hidden chain of each real cluster that has one, a row per pair of vertices."""

    def rows(simplex: Simplex) -> list[dict[str, Any]]:
        here = placed(heldout, simplex)
        try:
            require_both_halves(heldout.documents[here.tokens])
            steps, groups = _steps(heldout, here, belief)
            chain = update.chain_of(update.operators(steps, groups))
        except UnjudgedError:
            return []  # belief_update says why
        again = update.resampled_chains(steps, groups, belief.seed)
        if not again:
            return []
        low, high = np.percentile([each.transitions for each in again], [2.5, 97.5], axis=0)
        rare, often = np.percentile([each.stationary for each in again], [2.5, 97.5], axis=0)
        match = truth.match(here.tokens, here.coordinates) if truth is not None else None
        true = None if truth is None or match is None else truth.transitions(match)
        return [
            {
                "cluster_id": simplex.cluster.cluster_id,
                "k": len(chain.transitions),
                "from_vertex": i,
                "to_vertex": j,
                "probability": probability,
                "low": low[i, j],
                "high": high[i, j],
                "true_probability": None if true is None else true[i, j],
                "stays": chain.stays[i],
                "stationary": chain.stationary[i],
                "stationary_low": rare[i],
                "stationary_high": often[i],
            }
            for (i, j), probability in np.ndenumerate(chain.transitions)
        ]

    real = [simplex for simplex in simplices if not simplex.null_cluster]
    return itertools.chain.from_iterable(in_threads(rows, real))


def edit_rows(
    heldout: Heldout, simplices: Iterable[Simplex], belief: BeliefSettings, editor: "Editor"
) -> Iterator[dict[str, Any]]:
    """Whether predictions follow coordinates that are put in place of a token's own."""

    def row(simplex: Simplex, here: Placed) -> dict[str, Any]:
        some = spread(heldout, here, belief.edited_tokens, belief.seed)
        scores = edits.mixture_under_edits(
            editor.predict,
            editor.without(simplex, some),
            simplex.in_stream,
            belief.edit_points,
            belief.seed,
        )
        still = "" if scores.moved > 0 else "edits move no prediction"
        return {"tokens": len(some.tokens), **scores._asdict(), "unavailable": still}

    return _rows(heldout, simplices, row, "edits", each=map)


def steering_rows(
    heldout: Heldout,
    simplices: Iterable[Simplex],
    belief: BeliefSettings,
    editor: "Editor",
    truth: "Truth | None",
) -> Iterator[dict[str, Any]]:
    """Whether tokens near one vertex, put at another, predict what follows there."""
    found = list(simplices)
    real = [simplex for simplex in found if not simplex.null_cluster]
    # What null clusters reach needs no more of them than there are clusters.
    null = [simplex for simplex in found if simplex.null_cluster][: len(real)]

    def row(simplex: Simplex, here: Placed) -> dict[str, Any]:
        k = len(simplex.vertices)
        near = [here.near(vertex, belief.near_tokens) for vertex in range(k)]
        if not all(len(own) for own in near):
            raise UnjudgedError(f"{len(here.tokens)} tokens for {k} vertices")
        parts = [Placed(*(each[own] for each in here)) for own in near]
        edited = [editor.without(simplex, part) for part in parts]
        basis = simplex.cluster.basis.astype(np.float64)
        written = [part.rows @ basis.T for part in parts]
        # No token is steered towards a distribution that it is a part of.
        natural = np.stack([_mean_prediction(heldout, part.tokens) for part in parts])
        others = [each for each in real if each.cluster.cluster_id != simplex.cluster.cluster_id]
        other = others[0].in_stream if others else None

        def steer(
            some: list[Edited],
            own: list[Float[np.ndarray, "tokens d_model"]],
            to: Float[np.ndarray, "k groups"],
        ) -> edits.Steering:
            places = simplex.in_stream
            return edits.steering(editor.predict, some, own, places, basis, to, belief.seed, other)

        found = {"tokens": sum(map(len, near)), **steer(edited, written, natural)._asdict()}
        if truth is not None and not simplex.null_cluster:
            match = truth.match(here.tokens, here.coordinates)
            if match is not None:
                targets = truth.after_states(match, natural.shape[1])
                exact = steer(edited, written, targets)
                found |= {"true_reached": exact.reached, "true_kl_after": exact.kl_after}
        return found

    return _rows(heldout, [*real, *null], row, "steering", each=map)


def contrast_rows(
    heldout: Heldout, simplices: Iterable[Simplex], belief: BeliefSettings
) -> Iterator[dict[str, Any]]:
    """How far predictions at different vertices are apart, beside those at one vertex.

    One token per document and vertex; pairs of which both are the same token stand apart.
    """

    def row(_simplex: Simplex, here: Placed) -> dict[str, Any]:
        k = here.coordinates.shape[1]
        tokens, vertices = [], []
        for vertex in range(k):
            near = here.tokens[here.near(vertex, len(here.tokens))]
            firsts = np.sort(np.unique(heldout.documents[near], return_index=True)[1])
            some = near[firsts][: belief.near_tokens]
            tokens.append(some)
            vertices.append(np.full(len(some), vertex))
        which, vertex = np.concatenate(tokens), np.concatenate(vertices)
        p = heldout.p[which].astype(np.float64)
        apart = all_divergences(p)
        ids, documents = heldout.token_ids[which], heldout.documents[which]
        pair = documents[:, None] != documents
        same_vertex, same_token = vertex[:, None] == vertex, ids[:, None] == ids

        def mean(chosen: np.ndarray) -> float:
            return float(apart[pair & chosen].mean()) if (pair & chosen).any() else np.nan

        return {
            "tokens": len(which),
            "between": mean(~same_vertex),
            "within": mean(same_vertex),
            "same_token_between": mean(~same_vertex & same_token),
            "same_token_within": mean(same_vertex & same_token),
        }

    return _rows(heldout, simplices, row, "contrasts")


def _steps(
    heldout: Heldout, here: Placed, belief: BeliefSettings
) -> tuple[update.Steps, list[int]]:
    steps = update.steps_of(
        here.coordinates, here.tokens, heldout.groups, heldout.chunks, heldout.documents
    )
    return steps, update.frequent(steps, heldout.alone, belief.pairs)


def _mean_prediction(heldout: Heldout, tokens: np.ndarray) -> Float[np.ndarray, " groups"]:
    return heldout.p[tokens].mean(axis=0, dtype=np.float64)


def require_both_halves(documents: Int[np.ndarray, " tokens"]) -> None:
    """Refuse a cluster that is active at too few tokens to be judged.

    Raises:
        UnjudgedError: fewer than `FEWEST` in either half of the documents.
    """
    counts = np.bincount(documents % 2, minlength=2)
    if counts.min() < FEWEST:
        raise UnjudgedError(
            f"it is active at {counts[0]:,} and {counts[1]:,} held-out tokens of the two halves of "
            f"the documents; {FEWEST} each are needed"
        )


def _rows(
    heldout: Heldout,
    simplices: Iterable[Simplex],
    row: Callable[[Simplex, Placed], dict[str, Any]],
    what: str,
    each: Callable[..., Iterator[dict[str, Any]]] = in_threads,
) -> Iterator[dict[str, Any]]:
    """One row per cluster, with why it has no statistics where it has none.

    Args:
        each: calls a function on every cluster; `map` where the model can do one at a time only.
    """
    found = list(simplices)
    progress = Progress(len(found), "clusters", what)

    def judged(simplex: Simplex) -> dict[str, Any]:
        said: dict[str, Any] = {
            "cluster_id": simplex.cluster.cluster_id,
            "null_cluster": simplex.null_cluster,
            "n_latents": len(simplex.cluster.latents),
            "k": len(simplex.vertices),
            "unavailable": "",
        }
        here = placed(heldout, simplex)
        try:
            require_both_halves(heldout.documents[here.tokens])
            said |= row(simplex, here)
        except UnjudgedError as error:
            said["unavailable"] = str(error)
        progress.advance()
        return said

    return each(judged, found)
