"""A clustering made elsewhere, read from a file and checked."""

import numpy as np
from jaxtyping import Int

from aanet_assets.storage.inputs import labels_path


def read_labels(labels_file: str, n_latents: int, n_clusters: int) -> Int[np.ndarray, " latents"]:
    """Labels from an .npy file of one integer per latent; -1 stands for unassigned.

    `{n}` in the name is replaced by `n_clusters`; a relative path starts in the project's folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .npy file, or of another shape, type or range, or a cluster is empty.
    """
    path = labels_path(labels_file, n_clusters)
    if not path.is_file():
        raise FileNotFoundError(
            f"labels_file {path} does not exist; write one integer per latent there with numpy.save"
        )
    try:
        labels = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"labels_file {path} is not an .npy file of integers ({error}); write it with "
            "numpy.save"
        ) from error
    if not isinstance(labels, np.ndarray) or labels.shape != (n_latents,):
        shape = getattr(labels, "shape", "of an .npz archive")
        raise ValueError(
            f"labels_file {path} has shape {shape}; it must be ({n_latents},), one per latent"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels_file {path} holds {labels.dtype}; it must hold integers, -1 for unassigned"
        )
    outside = (labels < -1) | (labels >= n_clusters)
    if outside.any():
        latent = int(outside.argmax())
        raise ValueError(
            f"labels_file {path} gives latent {latent} the label {labels[latent]}; labels run "
            f"from -1 (unassigned) to {n_clusters - 1}"
        )
    missing = np.setdiff1d(np.arange(n_clusters), labels)
    if len(missing):
        raise ValueError(
            f"labels_file {path} has no latent in cluster {missing[0]} ({len(missing)} of "
            f"{n_clusters} clusters are empty); every label from 0 to {n_clusters - 1} must occur"
        )
    return labels.astype(np.int64)
