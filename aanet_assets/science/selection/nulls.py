"""Null clusters: groups of latents made by chance, to compare the real clusters with."""

import numpy as np
from jaxtyping import Float, Int

from aanet_assets.study.seeds import seed_for
from aanet_assets.study.study import Study

STRATUM = 8
"""Latents of like activity that change places among one another."""


def matched_shuffle(
    labels: Int[np.ndarray, " latents"], activity: Float[np.ndarray, " latents"], seed: int
) -> Int[np.ndarray, " latents"]:
    """Labels of a chance clustering with the same sizes and, nearly, the same activities.

    Latents with a label are put in the order of their activity and cut into strata of about eight;
    within each stratum the labels are permuted. So every null cluster has as many latents as the
    real one of the same label, each of them about as active as the one whose place it takes, and
    every latent is used once. Latents without a label (-1) keep having none.
    """
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(labels >= 0)
    shuffled = labels.copy()
    if not len(used):
        return shuffled
    ordered = used[np.argsort(activity[used], kind="stable")]
    for stratum in np.array_split(ordered, max(1, len(ordered) // STRATUM)):
        shuffled[stratum] = rng.permutation(labels[stratum])
    return shuffled


def shuffles_for(nulls: int, n_clusters: int) -> int:
    """Shuffles that give so many null clusters, and no fewer than there are clusters."""
    return max(1, -(-nulls // n_clusters))


def null_labels(
    study: Study,
    n: int,
    labels: Int[np.ndarray, " latents"],
    activity: Float[np.ndarray, " latents"],
) -> Int[np.ndarray, "shuffles latents"]:
    """Labels of the null clusterings of a study: one shuffle after the other."""
    return np.stack(
        [
            matched_shuffle(
                labels, activity, seed_for(study.controls.seed, study.name, n, "shuffle", shuffle)
            )
            for shuffle in range(shuffles_for(study.controls.nulls, n))
        ]
    )
