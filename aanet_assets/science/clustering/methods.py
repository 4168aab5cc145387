"""The clusterings: from decoder rows or affinities to one label per latent."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from aanet_assets.science.clustering.cooccurrence import Affinity, cooccurrence
from aanet_assets.science.clustering.decoder import rows_at_once, unit_rows, usable_latents
from aanet_assets.science.clustering.k_subspaces import k_subspaces
from aanet_assets.science.clustering.labels_file import read_labels
from aanet_assets.science.clustering.leiden import backbone, leiden
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import ClusteringSettings

log = logging.getLogger("aanet")

KMEANS_STARTS, SPECTRAL_STARTS = 4, 10
NEIGHBOURS = 256
"""Decoder rows nearest to a row, whose affinity to it `spectral_decoder` sees."""


def label_latents(
    decoder: Float[np.ndarray, "latents d_model"],
    activity: Float[np.ndarray, " latents"],
    codes_of: Callable[[Int[np.ndarray, " some"]], Iterable[csr_matrix]],
    n_clusters: int,
    settings: ClusteringSettings,
    activity_threshold: float,
    effects: Float[np.ndarray, "latents groups"] | None = None,
    prediction: Float[np.ndarray, " groups"] | None = None,
) -> Int[np.ndarray, " latents"]:
    """Cluster of every latent by the study's method.

    -1 for latents that never fire, fire too rarely, repeat an earlier one or have a decoder row of
    zeros.

    Args:
        decoder: decoder rows of the SAE.
        activity: share of training tokens at which each latent is active.
        codes_of: gives some latents' codes at all training tokens, (tokens, some), shard by shard.
        n_clusters: how many clusters.
        settings: say the method.
        activity_threshold: above which a latent counts as active in co-occurrences.
        effects: of latents on the log-probabilities of groups of tokens, for `spectral_effect`.
        prediction: probabilities of these groups, likewise.

    Raises:
        ValueError, FileNotFoundError: as `cluster_latents` does.
        ValueError: the method may take more memory than the machine has.
    """
    usable = usable_latents(
        decoder, activity, settings.min_activity_rate, settings.duplicate_cosine
    )
    check_memory(int(usable.sum()), n_clusters, settings, physical_memory())
    affinity = None
    if settings.method == "spectral_cooccurrence":
        codes = codes_of(np.flatnonzero(usable))
        affinity = cooccurrence(codes, activity_threshold, settings.cooccurrence)
    if settings.method == "leiden":
        codes = codes_of(np.flatnonzero(usable))
        affinity = backbone(codes, activity_threshold, settings.backbone)
    if settings.method == "spectral_effect":
        assert effects is not None
        assert prediction is not None
        affinity = effect_affinity(effects[usable], prediction)
    return cluster_latents(decoder, usable, n_clusters, settings, affinity)


def check_memory(latents: int, n_clusters: int, settings: ClusteringSettings, there: int) -> None:
    """Refuse a method that may take more bytes than there are.

    Raises:
        ValueError: with what it may take.
    """
    nearest = 2 * NEIGHBOURS * latents
    pairs = {
        "spectral_decoder": nearest,
        "spectral_effect": nearest,
        "spectral_cooccurrence": latents**2,
        "leiden": latents**2,
    }
    if settings.method not in pairs:
        return
    # Counts and affinities, 8 bytes a pair each; twice the eigenvectors for Lanczos, and a copy.
    needed = 16 * pairs[settings.method] + 8 * latents * 4 * n_clusters
    if needed > there:
        raise ValueError(
            f"clustering.method {settings.method} may take {needed / 1e9:,.0f} GB for "
            f"{latents:,} latents and n_clusters {n_clusters:,}, and this machine has "
            f"{there / 1e9:,.0f} GB: take kmeans, raise clustering.min_activity_rate, or ask for "
            "fewer clusters"
        )


def physical_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cluster_latents(
    decoder: Float[np.ndarray, "latents d_model"],
    usable: Bool[np.ndarray, " latents"],
    n_clusters: int,
    settings: ClusteringSettings,
    affinity: Affinity | None,
) -> Int[np.ndarray, " latents"]:
    """Cluster of every latent, -1 for latents that are not `usable`.

    `affinity`, of the usable latents, is needed by `spectral_cooccurrence`, `spectral_effect` and
    `leiden`. `spectral_decoder` works on the squared cosine of each decoder row with the 256 rows
    nearest to it: summed over the rows of a subspace it does not depend on the basis they form, and
    it presses chance alignment (about 1/d_model) down where |cosine| (about 1/sqrt(d_model)) would
    let many weak links outweigh the few strong ones.

    Clusters are numbered by their first latent, so equal partitions have equal labels. Labels from
    a file are taken as they are, `usable` or not. Fewer than `n_clusters` labels occur only where
    latents coincide; the clusters left empty have the last numbers.

    Raises:
        ValueError: more clusters than usable latents, no affinity where one is needed, a number of
            clusters that `leiden` does not find, or a malformed labels file.
        FileNotFoundError: no labels file.
    """
    if settings.method == "labels":
        assert settings.labels_file is not None
        return read_labels(settings.labels_file, len(decoder), n_clusters)
    if n_clusters > usable.sum():
        raise ValueError(
            f"n_clusters {n_clusters} is more than the {int(usable.sum())} usable latents (of "
            f"{len(decoder)}); ask for fewer clusters, or lower min_activity_rate"
        )
    # Sums over several threads come in a different order every time, and so would the labels.
    with threadpool_limits(limits=1):
        found = _partition(decoder, usable, n_clusters, settings, affinity)
    labels = np.full(len(decoder), -1, dtype=np.int64)
    labels[usable] = _numbered_by_first(found)
    if (occurring := labels.max() + 1) < n_clusters:
        log.warning(
            f"{settings.method} found {occurring} clusters where {n_clusters} were asked for: "
            "latents coincide; the others are empty"
        )
    return labels


def _partition(
    decoder: np.ndarray,
    usable: np.ndarray,
    n_clusters: int,
    settings: ClusteringSettings,
    affinity: Affinity | None,
) -> np.ndarray:
    rows = unit_rows(decoder[usable])
    seed = seed_for(settings.seed, settings.method, n_clusters) % 2**32
    if settings.method == "kmeans":
        model = KMeans(
            n_clusters,
            n_init=KMEANS_STARTS,  # pyright: ignore[reportArgumentType]
            random_state=seed,
        )
        return model.fit_predict(rows)
    if settings.method == "k_subspaces":
        return k_subspaces(rows, n_clusters, settings)
    if settings.method == "spectral_decoder":
        return _spectral(_nearest([rows]), n_clusters, seed)
    if affinity is None:
        raise ValueError(f"{settings.method} needs the latents' affinity; none was given")
    if settings.method == "leiden":
        return leiden(affinity, n_clusters, seed)
    return _spectral(affinity, n_clusters, seed)


def effect_affinity(
    effects: Float[np.ndarray, "latents groups"], prediction: Float[np.ndarray, " groups"]
) -> Affinity:
    """How far what two latents do to predictions depends on each other, of each with its nearest.

    A latent's effect is a random variable: what it adds to the log-probability of the token that
    comes next, which is drawn from the mean prediction. Where a token says several independent
    things at once, effects on different things are independent, whatever the angle of the decoder
    rows; and effects on one thing are not, even where they do not correlate: of two directions of a
    disk, each moves the tokens that the other leaves. Therefore sizes count as well. The affinity
    is the mean of the four squared correlations of the effects and absolute effects of one latent
    with those of the other, from 0 to 1.
    """
    effect = _standardised(effects, prediction)
    return _nearest([effect, _standardised(np.abs(effect), prediction)], np.sqrt(prediction))


def _standardised(
    values: Float[np.ndarray, "latents groups"], prediction: Float[np.ndarray, " groups"]
) -> Float[np.ndarray, "latents groups"]:
    """Rows of mean 0 and variance 1 under the prediction; of variance 0 where they are constant."""
    centred = values - (values @ prediction)[:, None]
    deviation = np.sqrt(np.square(centred) @ prediction)[:, None]
    return np.where(deviation > 0, centred / np.where(deviation > 0, deviation, 1), 0)


def _nearest(
    features: Sequence[Float[np.ndarray, "latents _"]],
    weights: Float[np.ndarray, " _"] | float = 1.0,
) -> Affinity:
    """Squared products of latents with those nearest to each, itself among them.

    Of several features it is the mean over all pairs of one's feature with the other's.
    """
    features = [feature * weights for feature in features]
    latents = len(features[0])
    most = min(NEIGHBOURS, latents)
    step = rows_at_once(latents)
    columns, values = [], []
    for start in range(0, latents, step):
        squares: np.ndarray = np.mean(
            [
                np.square(one[start : start + step] @ other.T)
                for one in features
                for other in features
            ],
            axis=0,
        )
        nearest = np.sort(np.argpartition(-squares, most - 1, axis=1)[:, :most], axis=1)
        columns.append(nearest.astype(np.int32))
        values.append(np.take_along_axis(squares, nearest, axis=1).astype(np.float32))
    ends = np.arange(0, most * latents + 1, most)
    found = csr_matrix(
        (np.concatenate(values).ravel(), np.concatenate(columns).ravel(), ends),
        shape=(latents, latents),
    )
    # A row may be among the nearest of another whose nearest it has not.
    return Affinity(found.maximum(found.T).tocsr(), np.zeros(latents))


def _spectral(affinity: Affinity, n_clusters: int, seed: int) -> Int[np.ndarray, " latents"]:
    """Normalised spectral clustering, with eigenvectors by Lanczos.

    As scikit-learn's `SpectralClustering` does it: the affinity of a latent with itself does not
    count, and k-means on the first eigenvectors, scaled by degrees, gives the labels.
    """
    pairs, apart = affinity
    latents = len(apart)
    if n_clusters == latents:
        return np.arange(n_clusters)
    itself = pairs.diagonal().astype(np.float64) + apart**2

    def times(x: Float[np.ndarray, " latents"]) -> Float[np.ndarray, " latents"]:
        return pairs @ x + apart * (apart @ x) - itself * x

    degrees = times(np.ones(latents))
    scale = 1 / np.sqrt(np.where(degrees > 0, degrees, 1))
    operator = LinearOperator(
        (latents, latents), matvec=lambda x: scale * times(scale * x.ravel()), dtype=np.float64
    )
    random = np.random.RandomState(seed)
    start = random.uniform(-1, 1, latents)
    vectors = eigsh(operator, n_clusters, which="LA", v0=start)[1]
    model = KMeans(
        n_clusters,
        n_init=SPECTRAL_STARTS,  # pyright: ignore[reportArgumentType]
        random_state=random,
    )
    return model.fit_predict(scale[:, None] * vectors[:, ::-1])


def _numbered_by_first(labels: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]
