"""What the review page shows, as plain numbers and texts: tables in, a JSON-able dict out."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aanet_assets.science.selection.rules import ELBOW, FUNCTIONAL, GEOMETRIC, MODES
from aanet_assets.study.settings import BeliefSettings, ControlSettings, SelectionSettings, Settings

DIGITS = 4
"""Significant digits of numbers that are only drawn: more would only make the page large."""
DRAWN = {
    ELBOW: (
        "decoder_dir_rank",
        "activation_pca_rank",
        "aanet_recon_loss_elbow_k",
        "aanet_recon_loss_elbow_strength",
        "aanet_archetypal_loss_elbow_k",
        "aanet_archetypal_loss_elbow_strength",
    ),
    GEOMETRIC: ("coactivity", "coactivity_q", "simplex_fit", "simplex_k"),
    FUNCTIONAL: ("kl_explained", "int_r2"),
}
"""Columns of each mode's table that the page draws, whether or not a rule names them."""
CURVE_POINTS = 40
SAMPLES_PER_VERTEX = 6
TOKENS_PER_VERTEX = 8
CHARACTERS_AROUND = 80
"""Of a text, shown before its first trigger token and after it. Not words: in Chinese or Japanese
a whole text is one."""


def exact(value: object) -> float | int | None:
    """A number that the page compares with thresholds; None for what is missing or not finite."""
    if value is None or pd.isna(value) or not math.isfinite(value):  # pyright: ignore
        return None
    return int(value) if isinstance(value, int | np.integer | bool) else float(value)  # pyright: ignore


def number(value: object) -> float | int | None:
    """A number that the page only draws, in `DIGITS` digits; None as in `exact`."""
    found = exact(value)
    return float(f"{found:.{DIGITS}g}") if isinstance(found, float) else found


def numbers(values: Iterable[object]) -> list[float | int | None]:
    """Each of them by `number`."""
    return [number(value) for value in values]


def cluster_rows(
    metrics: pd.DataFrame,
    evidence: pd.DataFrame,
    functional: pd.DataFrame | None,
    verdicts: pd.DataFrame,
) -> list[dict[str, Any]]:
    """One entry per cluster: what is known of it and does not depend on k, and its losses.

    Values that the page draws or judges have the names of their columns.
    """
    known = {GEOMETRIC: evidence} | ({} if functional is None else {FUNCTIONAL: functional})
    real = {mode: t[~t["null_cluster"]].set_index("cluster_id") for mode, t in known.items()}
    verdicts = verdicts.set_index("cluster_id")
    found = []
    for cluster_id, own in metrics.sort_values("aanet_k").groupby("cluster_id"):
        first, verdict = own.iloc[0], verdicts.loc[cluster_id]
        entry = {
            "id": int(str(cluster_id)),
            "latents": [int(i) for i in first["latent_indices"]],
            "reconLoss": numbers(own["aanet_recon_loss"]),
            "archLoss": numbers(own["aanet_archetypal_loss"]),
            "selected": bool(verdict["selected"]),
        }
        rows = {ELBOW: first} | {mode: table.loc[cluster_id] for mode, table in real.items()}
        for mode, row in rows.items():
            entry |= {name: exact(row[name]) for name in (*DRAWN[mode], *MODES[mode].columns)}
            entry[mode] = _text(verdict[f"{mode}_category"])
            entry[f"{mode}Reason"] = _text(verdict[f"{mode}_reason"])
        found.append(entry)
    return found


def bands(replicates: pd.DataFrame | None, ks: Sequence[int]) -> dict[str, Any]:
    """Losses over k, relative to the first k: ranges of replicates, 80% of null clusters."""
    if replicates is None:
        return {"replicates": {}, "null": None}
    curves = replicates.pivot(
        index=["null_cluster", "cluster_id", "replicate"], columns="k", values="aanet_recon_loss"
    )[list(ks)].astype("float64")
    curves = curves.div(curves[ks[0]], axis=0)
    real, null = (curves.xs(null_cluster, level="null_cluster") for null_cluster in (False, True))
    ranges = real.groupby("cluster_id").agg(["min", "max"])
    return {
        "replicates": {
            int(str(cluster_id)): [numbers(row[(k, edge)] for k in ks) for edge in ("min", "max")]
            for cluster_id, row in ranges.iterrows()
        },
        "null": [numbers(null[k].quantile(share) for k in ks) for share in (0.1, 0.5, 0.9)],
    }


def thinned(values: Sequence[float]) -> dict[str, list]:
    """Some of the points of a training curve, the last among them."""
    places = np.unique(np.linspace(0, len(values) - 1, min(CURVE_POINTS, len(values))).astype(int))
    return {"steps": [int(i) + 1 for i in places], "loss": numbers(values[i] for i in places)}


def vertex_texts(samples: pd.DataFrame, vertex_id: int) -> dict[str, Any]:
    """The most frequent trigger tokens of a vertex, and the samples nearest to it."""
    own = samples[samples["vertex_id"] == vertex_id]
    tokens = Counter(token for row in own.to_dict("records") for token in _tokens(row))
    nearest = own.assign(nearest=own["distances_to_vertex"].map(min)).sort_values("nearest")
    return {
        "samples": len(own),
        "tokens": [
            [visible(token), count] for token, count in tokens.most_common(TOKENS_PER_VERTEX)
        ],
        "texts": [
            excerpt(row["full_text"], _places(row))
            for row in nearest.head(SAMPLES_PER_VERTEX).to_dict("records")
        ],
    }


def visible(token: str) -> str:
    """A token with marks for the white space that would not show: at its ends, and line breaks."""
    bare = token.strip()
    inside = _shown(bare, 0)
    if not bare:
        return "".join(_MARKS.get(char, f"␣U+{ord(char):04X}") for char in token)
    before, after = token.split(bare)
    return f"{visible(before)}{inside}{visible(after)}"


def excerpt(text: str, places: Sequence[tuple[int, int]]) -> list[list]:
    """Characters around the first place, in parts: each a text and whether it is one of the places.

    Without places it is the beginning of the text, and says so.
    """
    first, last = places[0] if places else (0, 0)
    start, end = max(0, first - CHARACTERS_AROUND), min(len(text), last + CHARACTERS_AROUND)
    parts, at = [["…", 0]] if start else [], start
    for begin, stop in places:
        # Pieces of one character have the same place.
        begin, stop = max(begin, at), min(stop, end)
        if begin < stop:
            parts += [[text[at:begin], 0], [text[begin:stop], 1]]
            at = stop
    parts += [[text[at:end], 0], *([["…", 0]] if end < len(text) else [])]
    parts += [] if places else [[" (where the token stands in it is not known)", 0]]
    return [[_shown(part, marked), marked] for part, marked in parts if part]


_MARKS = {" ": "␣", "\n": "↵", "\r": "↵", "\t": "⇥", "\v": "↵", "\f": "↵"}


def _shown(text: str, marked: int) -> str:
    if marked and text.isspace():
        return visible(text)
    return "".join(char if char == " " else _MARKS.get(char, char) for char in text)


def _places(row: Mapping[Any, Any]) -> list[tuple[int, int]]:
    """Places of the trigger tokens in the text, in order; those that are not known are left out."""
    places = zip(row["trigger_token_starts"], row["trigger_token_ends"], strict=True)
    return [(int(start), int(end)) for start, end in places if not pd.isna(start)]


def _tokens(row: Mapping[Any, Any]) -> Iterator[str]:
    """The trigger tokens: as the text shows those that decoding alone does not show whole."""
    columns = ("trigger_words", "trigger_token_starts", "trigger_token_ends")
    for token, start, end in zip(*(row[name] for name in columns), strict=True):
        whole = token and "\ufffd" not in token
        yield token if whole or pd.isna(start) else row["full_text"][int(start) : int(end)]


def settings(
    selection: SelectionSettings, controls: ControlSettings, belief: BeliefSettings | None
) -> dict[str, Any]:
    """The settings of selection in use, by group and name, their defaults, and what they decide.

    `rules` are those of `MODES` that the study has, each with group, kind and bounds of its
    settings as their fields declare them.
    """
    groups: dict[str, Settings] = {"selection": selection, "controls": controls}
    if belief is not None:
        groups["belief"] = belief
    return {
        "rules": {
            name: {
                "rules": [rule._asdict() for rule in mode.rules],
                "strengths": {key: own._asdict() for key, own in mode.strengths.items()},
                "categories": [category._asdict() for category in mode.categories],
                "settings": {setting: _field(setting, groups) for setting in mode.settings},
            }
            for name, mode in MODES.items()
            if mode.limits in groups
        },
        "settings": {group: own.model_dump() for group, own in groups.items()},
        "defaults": {group: type(own)().model_dump() for group, own in groups.items()},
        "types": {group: type(own).__name__ for group, own in groups.items()},
    }


def _field(setting: str, groups: Mapping[str, Settings]) -> dict[str, Any]:
    group = next(name for name, own in groups.items() if setting in type(own).model_fields)
    field = type(groups[group]).model_json_schema()["properties"][setting]
    return {
        "group": group,
        "kind": field.get("type"),
        "least": field.get("minimum", field.get("exclusiveMinimum")),
        "most": field.get("maximum", field.get("exclusiveMaximum")),
    }


def _text(value: object) -> str:
    return "" if value is None or pd.isna(value) else str(value)  # pyright: ignore
