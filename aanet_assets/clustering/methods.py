"""The clusterings: from decoder rows or affinities to one label per latent."""

import logging
import warnings

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans, SpectralClustering
from threadpoolctl import threadpool_limits

from aanet_assets.clustering.cooccurrence import cooccurrence
from aanet_assets.clustering.decoder import unit_rows, usable_latents
from aanet_assets.clustering.k_subspaces import k_subspaces
from aanet_assets.clustering.labels_file import read_labels
from aanet_assets.study.seeds import seed_for
from aanet_assets.study.settings import ClusteringSettings

log = logging.getLogger("aanet")

KMEANS_STARTS = 4


def label_latents(
    decoder: Float[np.ndarray, "latents d_model"],
    codes: csr_matrix,
    n_clusters: int,
    settings: ClusteringSettings,
    activity_threshold: float,
) -> Int[np.ndarray, " latents"]:
    """Cluster of every latent by the study's method, given the codes of the training tokens.

    -1 for latents that never fire, fire too rarely, repeat an earlier one or have a decoder row of
    zeros.

    Raises:
        ValueError, FileNotFoundError: as `cluster_latents` does.
    """
    activity = codes.getnnz(axis=0) / codes.shape[0]
    usable = usable_latents(
        decoder, activity, settings.min_activity_rate, settings.duplicate_cosine
    )
    affinity = None
    if settings.method == "spectral_cooccurrence":
        affinity = cooccurrence(codes, activity_threshold, settings.cooccurrence)
    return cluster_latents(decoder, usable, n_clusters, settings, affinity)


def cluster_latents(
    decoder: Float[np.ndarray, "latents d_model"],
    usable: Bool[np.ndarray, " latents"],
    n_clusters: int,
    settings: ClusteringSettings,
    affinity: Float[np.ndarray, "latents latents"] | None,
) -> Int[np.ndarray, " latents"]:
    """Cluster of every latent, -1 for latents that are not `usable`.

    `affinity` is needed by `spectral_cooccurrence` only. `spectral_decoder` works on the squared
    cosine between decoder rows: summed over the rows of a subspace it does not depend on the basis
    they form, and it presses chance alignment (about 1/d_model) down where |cosine| (about
    1/sqrt(d_model)) would let many weak links outweigh the few strong ones.

    Clusters are numbered by their first latent, so equal partitions have equal labels. Labels from
    a file are taken as they are, `usable` or not. Fewer than `n_clusters` labels occur only where
    latents coincide; the clusters left empty have the last numbers.

    Raises:
        ValueError: more clusters than usable latents, no affinity where one is needed, or a
            malformed labels file.
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
    affinity: np.ndarray | None,
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
        return _spectral(np.square(rows @ rows.T), n_clusters, seed)
    if affinity is None:
        raise ValueError(
            "spectral_cooccurrence needs the latents' co-occurrence as affinity; none was given"
        )
    return _spectral(affinity[np.ix_(usable, usable)], n_clusters, seed)


def _spectral(affinity: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    if n_clusters == len(affinity):
        return np.arange(n_clusters)
    model = SpectralClustering(
        n_clusters, affinity="precomputed", random_state=seed, assign_labels="kmeans"
    )
    with warnings.catch_warnings():
        # Groups that share no affinity at all are what one hopes for here.
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        return model.fit_predict(affinity)


def _numbered_by_first(labels: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]
