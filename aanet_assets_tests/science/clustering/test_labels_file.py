"""Labels from a file: honoured as they are, or refused with what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from aanet_assets.science.clustering.methods import cluster_latents
from aanet_assets.study.settings import ClusteringSettings


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AANET_HOME", str(tmp_path))
    return tmp_path


def labels_of(name: str, n_clusters: int = 3) -> np.ndarray:
    settings = ClusteringSettings(method="labels", labels_file=name)
    usable = np.array([False, True, True, True, False])
    return cluster_latents(np.eye(5), usable, n_clusters, settings, None)


def test_labels_are_honoured_even_for_latents_out_of_use(data: Path) -> None:
    np.save(data / "mine_3.npy", np.array([2, 0, -1, 1, 2], dtype=np.int16))
    assert labels_of("mine_{n}.npy").tolist() == [2, 0, -1, 1, 2]
    assert labels_of(str(data / "mine_3.npy")).tolist() == [2, 0, -1, 1, 2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 2, 0]), r"has shape \(4,\); it must be \(5,\)"),
        (np.zeros((5, 1), int), r"has shape \(5, 1\); it must be \(5,\)"),
        (np.array([0.0, 1, 2, 0, 1]), "holds float64; it must hold integers"),
        (np.array([True, False, True, True, True]), "holds bool; it must hold integers"),
        (np.array([0, 1, 2, 3, 1]), "gives latent 3 the label 3; labels run from -1 .* to 2"),
        (np.array([0, -2, 2, 1, 1]), "gives latent 1 the label -2; labels run from -1"),
        (np.array([0, 2, 2, 0, -1]), r"has no latent in cluster 1 \(1 of 3 clusters are empty\)"),
    ],
)
def test_malformed_labels_are_refused(data: Path, labels: np.ndarray, message: str) -> None:
    np.save(data / "labels.npy", labels)
    with pytest.raises(ValueError, match=message):
        labels_of("labels.npy")


def test_other_files_are_refused(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing_3\.npy does not exist"):
        labels_of("missing_{n}.npy")
    (data / "text.npy").write_text("0\n1\n2\n")
    with pytest.raises(ValueError, match=r"is not an \.npy file of integers"):
        labels_of("text.npy")
    (data / "nothing.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is not an \.npy file of integers"):
        labels_of("nothing.npy")
    np.save(data / "objects.npy", np.array([0, None], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"is not an \.npy file of integers"):
        labels_of("objects.npy")
    np.savez(data / "archive.npz", np.arange(5))
    with pytest.raises(ValueError, match=r"has shape of an \.npz archive"):
        labels_of("archive.npz")
