"""Checks of an SAE before it is used, and of a shard of the activation cache."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int, UInt
from safetensors import SafetensorError, safe_open

from aanet_assets.science.activations.corpus import load_tokenizer
from aanet_assets.science.activations.sae_config import Hook, parse_hook
from aanet_assets.science.activations.shards import ARRAYS
from aanet_assets.steps.checks.wording import listed
from aanet_assets.storage.step import Finding
from aanet_assets.study.settings import FitSettings
from aanet_assets.study.study import Study, resolve

GAP = 1e-3
"""Largest relative distance between the reconstruction and codes times decoder rows; rounding in
float32 leaves less than 1e-5."""


def check_fit(table: pd.DataFrame, settings: FitSettings) -> list[Finding]:
    """Check what the SAE did on the corpus's first tokens against the study's thresholds."""
    (fit,) = table.to_dict("records")
    belongs = "outside, the SAE does not belong to this model, layer or dtype (or set fit.{})"
    most = min(settings.max_l0, settings.max_l0_share * fit["latents"])
    return [
        Finding(
            "active_latents",
            settings.min_l0 <= fit["l0"] <= most,
            f"{fit['l0']:.4g} latents are active per token; it must be {settings.min_l0:g} to "
            f"{most:g} ({settings.max_l0:g}, or {settings.max_l0_share:g} of the SAE's "
            f"{fit['latents']:,}): {belongs.format('min_l0, fit.max_l0, fit.max_l0_share')}",
        ),
        Finding(
            "explains",
            # Written so that a NaN fails, too.
            bool(fit["unexplained"] <= settings.max_unexplained),
            f"the reconstruction leaves {_percent(fit['unexplained'])} of the variance of the "
            f"residual stream unexplained; {settings.max_unexplained:.1%} is the most allowed: "
            f"{belongs.format('max_unexplained')}",
        ),
        Finding(
            "explains_most_tokens",
            bool(fit["median_unexplained"] <= settings.max_median_unexplained),
            f"it leaves {_percent(fit['median_unexplained'])} of the median token's squared "
            f"distance from the mean unexplained; {settings.max_median_unexplained:.1%} is the "
            f"most allowed: {belongs.format('max_median_unexplained')}",
        ),
        Finding(
            "is_the_reconstruction",
            bool(fit["reconstruction_gap"] <= GAP),
            "codes times decoder rows, with what no code makes, are up to "
            f"{fit['reconstruction_gap']:.2g} of its length away from a token's reconstruction; "
            f"{GAP:g} is the most allowed: beyond, a cluster's rows are not what its latents "
            "write; choose an SAE without steps of its own between codes and reconstruction",
        ),
        _right_layer(fit, settings),
        Finding(
            "few_large_tokens",
            bool(fit["largest_share"] <= settings.max_largest_share),
            f"the largest 1% of tokens make {_percent(fit['largest_share'])} of the squared "
            f"distances from the mean; above {settings.max_largest_share:.1%} they decide what "
            "variance there is: rows.max_norm_ratio leaves them out, for example 10.0",
            blocking=False,
        ),
        _zero_rows(fit),
        Finding(
            "says_the_same",
            not len(fit["doubts"]),
            "; ".join(fit["doubts"]) or "what the SAE says of its training holds in this study",
            blocking=False,
        ),
    ]


def _percent(share: float) -> str:
    return "an unknown share" if np.isnan(share) else f"{share:.1%}"


def _right_layer(fit: dict, settings: FitSettings) -> Finding:
    hook, best = parse_hook(fit["best_hook"]), fit["best_unexplained"]
    after = hook.side == "pre" and hook.layer > 0
    also = f" (which is {Hook(hook.layer - 1, 'post')})" if after else ""
    return Finding(
        "right_layer",
        fit["best_hook"] == fit["hook"]
        or not best < settings.neighbour_ratio * fit["hook_unexplained"],
        f"of the hook {fit['hook']}, which the SAE names, and those beside it, {hook}{also} fits "
        f"best: {_percent(best)} of the median token is unexplained there, and "
        f"{_percent(fit['hook_unexplained'])} at the SAE's own; less than "
        f"{settings.neighbour_ratio:g} times as much means that the SAE names the wrong layer: "
        "correct hook_name in its cfg.json (or set fit.neighbour_ratio)",
    )


def _zero_rows(fit: dict) -> Finding:
    rows = [int(latent) for latent in fit["zero_rows"]]
    named = f" (latents {listed(rows)})" if rows else ""
    return Finding(
        "decoder_rows",
        not rows,
        f"{len(rows):,} of {fit['latents']:,} decoder rows are zero{named}; such latents write "
        "nothing and get no cluster (label -1)"
        + (": if they should, copy the SAE's weights again from where they came" if rows else ""),
        blocking=False,
    )


def special_ids_of(study: Study) -> list[int]:
    """Ids of special tokens of a study's tokenizer, by its files."""
    folder = resolve(study.model)
    with tempfile.TemporaryDirectory() as scratch:
        if not (folder / "tokenizer.json").is_file():
            folder = Path(scratch)
            load_tokenizer(study).save_pretrained(folder)
        return special_ids_in(folder)


def special_ids_in(folder: Path) -> list[int]:
    """Ids of special tokens by the files of a tokenizer's folder.

    Not by the loaded tokenizer, whose word the activation cache has taken.
    """
    whole, config, roles = (
        json.loads(path.read_text(encoding="utf-8")) if (path := folder / name).is_file() else {}
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    )
    added = whole.get("added_tokens", [])
    by_name = _vocabulary(whole.get("model", {}))
    by_name |= {token["content"]: token["id"] for token in added}
    marked = {token["id"]: token["special"] for token in added}
    # Where the two differ, transformers goes by the second.
    for id, token in config.get("added_tokens_decoder", {}).items():
        by_name[token["content"]] = int(id)
        marked[int(id)] = token.get("special", False)
    named = []
    for name, value in {**config, **roles}.items():
        if name.endswith(("_token", "special_tokens")):
            named += value if isinstance(value, list) else [value]
    contents = [token["content"] if isinstance(token, dict) else token for token in named]
    by_role = {by_name[name] for name in contents if isinstance(name, str) and name in by_name}
    return sorted(by_role | {id for id, special in marked.items() if special})


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    vocab = model.get("vocab", {})
    if isinstance(vocab, dict):
        return dict(vocab)
    return {piece: id for id, (piece, _) in enumerate(vocab)}


def check_shard(
    path: Path,
    seq_len: int,
    special_ids: Sequence[int],
    activity_threshold: float,
    max_l0_share: float,
) -> list[Finding]:
    """Check one shard; where it cannot be read, or does not fit together, nothing else is said.

    Args:
        seq_len: tokens per chunk.
        special_ids: ids of BOS and the tokenizer's other special tokens.
        activity_threshold: codes above it are kept.
        max_l0_share: the most latents that may be active per token, as a share of all.
    """
    try:
        arrays, n_latents = _read(path)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        return [Finding("structure", False, f"{path.name} is not a shard: {error}")]
    if problem := _misfit(arrays, n_latents, seq_len):
        return [Finding("structure", False, problem)]
    tokens, counts = arrays["tokens"], arrays["counts"].reshape(arrays["tokens"].shape)
    size = f"{len(tokens):,} chunks of {seq_len} tokens, {len(arrays['values']):,} codes"
    return [
        Finding("structure", True, f"the file's arrays fit together: {size}"),
        _special_tokens(tokens, counts, special_ids),
        _codes(arrays["values"], activity_threshold),
        _active_latents(counts[~arrays["special"]], n_latents, max_l0_share),
    ]


def _read(path: Path) -> tuple[dict[str, np.ndarray], int]:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in ARRAYS}
        return arrays, int(file.metadata()["n_latents"])


def _misfit(arrays: dict[str, np.ndarray], n_latents: int, seq_len: int) -> str | None:
    tokens, counts, latents = arrays["tokens"], arrays["counts"], arrays["latents"]
    if tokens.ndim != 2 or tokens.shape[1] != seq_len or arrays["special"].shape != tokens.shape:
        return (
            f"tokens have shape {tokens.shape} and the special positions "
            f"{arrays['special'].shape}; both must be chunks of {seq_len}"
        )
    for name in ("documents", "starts"):
        if arrays[name].shape != tokens.shape[:1]:
            return f"{len(tokens):,} chunks have {arrays[name].size:,} {name}; each needs one"
    norms = arrays["norms"]
    if norms.shape != tokens.shape or not np.isfinite(norms).all():
        return (
            f"{int(np.isfinite(norms).sum()):,} lengths of the residual stream are finite numbers; "
            f"each of {tokens.size:,} tokens needs one"
        )
    if counts.shape != (tokens.size,):
        return f"{len(counts):,} tokens have a count of codes; there are {tokens.size:,} tokens"
    if not counts.sum(dtype=np.int64) == len(latents) == len(arrays["values"]):
        return (
            f"the counts add up to {counts.sum(dtype=np.int64):,} codes; there are "
            f"{len(latents):,} latent ids and {len(arrays['values']):,} values"
        )
    if len(latents) and (latents.min() < 0 or latents.max() >= n_latents):
        return (
            f"latent ids run from {latents.min()} to {latents.max()}; the SAE's run from 0 to "
            f"{n_latents - 1}"
        )
    return None


def _special_tokens(
    tokens: Int[np.ndarray, "chunks seq"],
    counts: UInt[np.ndarray, "chunks seq"],
    special_ids: Sequence[int],
) -> Finding:
    # By token id and not by the shard's own mask, which could be wrong itself.
    special = np.isin(tokens, np.asarray(special_ids, dtype=np.int64))
    special[:, 0] = True
    loud = int((counts[special] > 0).sum())
    return Finding(
        "special_tokens_silent",
        loud == 0,
        f"{loud:,} of {int(special.sum()):,} BOS, special and first tokens carry codes; none may",
    )


def _codes(values: np.ndarray, activity_threshold: float) -> Finding:
    # Rounding to float16 keeps the order, so a code above the threshold stays at or above it.
    least = values.dtype.type(activity_threshold)
    infinite, small = int((~np.isfinite(values)).sum()), int((values < least).sum())
    return Finding(
        "codes_in_range",
        infinite == small == 0,
        f"{infinite:,} of {len(values):,} codes are not finite and {small:,} are below "
        f"{float(least):.3g}; all must be finite and at least that",
    )


def _active_latents(
    counts: UInt[np.ndarray, " counted"], n_latents: int, max_l0_share: float
) -> Finding:
    mean, most = counts.mean() if len(counts) else 0.0, max_l0_share * n_latents
    return Finding(
        "active_latents",
        bool(0 < mean <= most),
        f"{mean:.4g} latents are active per token; it must be more than 0 and at most {most:g}, "
        f"{max_l0_share:g} of {n_latents}: outside, the SAE does not belong to this model, layer "
        "or dtype (or set fit.max_l0_share)",
    )


def check_by_latent(path: Path, shard: Path) -> list[Finding]:
    """Check the codes of one shard, latent by latent, against the shard itself."""
    with safe_open(path, framework="numpy") as file:
        ends, tokens, values = (file.get_tensor(name) for name in ("ends", "tokens", "values"))
    arrays, n_latents = _read(shard)
    counts, latents = arrays["counts"][~arrays["special"].ravel()], arrays["latents"]
    lengths, expected = np.diff(ends), np.bincount(latents, minlength=n_latents)
    if not np.array_equal(lengths, expected) or not len(tokens) == len(values) == ends[-1]:
        wrong = int((lengths != expected).sum()) if len(lengths) == n_latents else n_latents
        said = f"{wrong:,} of {n_latents:,} latents have other numbers of codes than in the shard"
        return [Finding("complete", False, said + "; none may")]
    # Tokens beyond the last fall into one bin after it.
    at = np.bincount(np.minimum(tokens, len(counts)), minlength=len(counts) + 1)
    wrong = int((at != np.append(counts, 0)).sum())
    rises = np.diff(tokens.astype(np.int64)) > 0
    rises[ends[1:-1][(ends[1:-1] > 0) & (ends[1:-1] < len(tokens))] - 1] = True
    # The same numbers in the same order, so that sums are equal to the last bit.
    of_latent = np.repeat(np.arange(n_latents), lengths)
    sums = np.bincount(of_latent, values, n_latents)
    other = int((sums != np.bincount(latents, arrays["values"], n_latents)).sum())
    return [
        Finding(
            "complete",
            not wrong,
            f"{wrong:,} of {len(counts):,} tokens have other numbers of codes than in the shard; "
            "none may",
        ),
        Finding(
            "order",
            bool(rises.all()),
            f"{int((~rises).sum()):,} of {len(tokens):,} codes do not come after the one before; "
            "all of a latent must",
        ),
        Finding(
            "values",
            not other,
            f"the codes of {other:,} of {n_latents:,} latents add up to another sum than in the "
            "shard; none may",
        ),
    ]
