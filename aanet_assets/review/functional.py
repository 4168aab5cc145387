"""What the review page shows of what the model does with each cluster's simplex."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aanet_assets.review.contents import number, numbers, visible
from aanet_assets.science.belief.evidence import COMPARED, FEWEST_NULLS, too_few
from aanet_assets.science.selection.evidence import NEIGHBOURS
from aanet_assets.science.selection.rules import FUNCTIONAL, MODES
from aanet_assets.study.settings import BeliefSettings

NULLS = 1_000
"""Null clusters whose statistics the page holds, at most."""
TOKENS, TOKENS_OF_OTHERS = 200, 30
"""Held-out tokens that are drawn of a selected cluster, and of another one."""
STEERING = ("reached", "true_reached", "random", "random_in_span", "other_cluster", "removed")


class Asked(NamedTuple):
    """What was asked of the model about the clusters of one n_clusters, as tables."""

    evidence: pd.DataFrame
    """`functional_evidence`."""
    statistics: Sequence[pd.DataFrame]
    """Those that its statistics come from, with the reasons of their own."""
    chains: pd.DataFrame
    """`belief_chains`."""
    steering: pd.DataFrame
    """`vertex_steering`."""
    tokens: pd.DataFrame
    """`simplex_tokens`."""
    doses: pd.DataFrame
    """`dose_response`."""


def functional(asked: Asked, chosen: Collection[int]) -> dict[str, Any]:
    """Statistics of null clusters, and what there is of each real cluster, by its number.

    Args:
        chosen: clusters that more of the tokens are drawn of.
    """
    real = asked.evidence[~asked.evidence["null_cluster"].astype(bool)]
    null = asked.evidence[asked.evidence["null_cluster"].astype(bool)]
    counts = {name: int(null[name].notna().sum()) for name in _verdicts()}
    return {
        "nulls": _nulls(null),
        "nearest": NEIGHBOURS,
        "clusters": {
            int(row["cluster_id"]): _cluster(row, asked, counts, int(row["cluster_id"]) in chosen)
            for row in real.to_dict("records")
        },
    }


def _verdicts() -> list[str]:
    """The statistics that rules of the functional mode compare with limits of their own."""
    known = BeliefSettings.model_fields
    return [rule.column for rule in MODES[FUNCTIONAL].rules if rule.setting in known]


def _nulls(null: pd.DataFrame) -> dict[str, list[float | int | None]]:
    """Sizes and statistics of null clusters in the order of size, evenly thinned."""
    ordered = null.sort_values(["n_latents", "cluster_id"])
    places = np.unique(np.linspace(0, len(ordered) - 1, min(NULLS, len(ordered))).astype(int))
    return {name: numbers(ordered[name].iloc[places]) for name in ("n_latents", *_verdicts())}


def _cluster(
    row: Mapping[Any, Any], asked: Asked, counts: dict[str, int], is_chosen: bool
) -> dict[str, Any]:
    cluster_id, why = int(row["cluster_id"]), str(row["unavailable"])

    def reason(name: str) -> str:
        tables = (table for table in asked.statistics if name in table.columns)
        return next((_reason_in(table, cluster_id, why) for table in tables), why)

    tokens, doses, chain = (
        table[table["cluster_id"] == cluster_id]
        for table in (asked.tokens, asked.doses, asked.chains)
    )
    steering = _of_cluster(asked.steering, cluster_id)
    steered = len(steering) > 0 and pd.notna(steering["reached"].iloc[0])
    return {
        "statistics": {
            name: {
                "p": number(row.get(f"{name}_p")),
                "q": number(row.get(f"{name}_q")),
                "reason": reason(name) if pd.isna(row[name]) else "",
                "noP": _no_p(name, count),
            }
            for name, count in counts.items()
        },
        "tokens": _tokens(tokens.head(TOKENS if is_chosen else TOKENS_OF_OTHERS)),
        "doses": _doses(doses),
        "tokensReason": reason("kl_explained")
        or "no next-token probability varies over its tokens",
        "chain": _chain(chain) if len(chain) else None,
        "chainReason": reason("prediction_r2")
        or "no token that follows one vertex has an operator",
        "steering": {name: number(steering[name].iloc[0]) for name in STEERING}
        if steered
        else None,
        "steeringReason": _reason_in(asked.steering, cluster_id, why),
    }


def _no_p(name: str, nulls: int) -> str:
    """Why a statistic that is there has no p-value; empty where it has one."""
    if name not in COMPARED:
        return "its limit alone is asked"
    return "" if nulls >= FEWEST_NULLS else too_few(nulls)


def _of_cluster(table: pd.DataFrame, cluster_id: int) -> pd.DataFrame:
    return table[(table["cluster_id"] == cluster_id) & ~table["null_cluster"].astype(bool)]


def _reason_in(table: pd.DataFrame, cluster_id: int, why: str) -> str:
    """What a table says of a cluster; of one without a simplex it has no row, and `why` is said."""
    own = _of_cluster(table, cluster_id)
    return str(own["unavailable"].iloc[0]) if len(own) else why


def _tokens(own: pd.DataFrame) -> dict[str, Any]:
    """Coordinates in thousandths, probabilities in ten-thousandths."""

    def rounded(column: str, units: int) -> list[list[int]]:
        return [np.rint(units * np.asarray(values)).astype(int).tolist() for values in own[column]]

    return {"points": rounded("coordinates", 1_000), "p": rounded("probabilities", 10_000)}


def _doses(own: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry per next token, by how much it varies."""
    return [
        {
            "token": visible(str(rows["next_token"].iloc[0])),
            "others": int(rows["group_tokens"].iloc[0]) - 1,
            "from": int(rows["from_vertex"].iloc[0]),
            "to": int(rows["to_vertex"].iloc[0]),
            **{
                name: numbers(rows[name])
                for name in ("coordinate", "probability", "low", "high", "mixture")
            },
        }
        for _, rows in own.sort_values(["rank", "coordinate"]).groupby("rank")
    ]


def _chain(own: pd.DataFrame) -> dict[str, Any]:
    """Transitions as matrices, from row to column; `true` is None where it is not known."""

    def matrix(name: str) -> list[list[float | int | None]]:
        wide = own.pivot(index="from_vertex", columns="to_vertex", values=name)
        return [numbers(row) for row in wide.to_numpy(np.float64, na_value=np.nan)]

    known = bool(own["true_probability"].notna().all())
    return {
        **{name: matrix(name) for name in ("probability", "low", "high")},
        "true": matrix("true_probability") if known else None,
    }
