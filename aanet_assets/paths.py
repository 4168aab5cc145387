"""Names of files and folders; nothing else in the project spells one out.

Everything lies under `data/` of the project's folder: the folder in `AANET_HOME`, else the working
directory, as with Dagster's own files.
"""

import os
from dataclasses import dataclass
from pathlib import Path


def data_root() -> Path:
    """The `data/` folder."""
    return Path(os.environ.get("AANET_HOME") or Path.cwd()).resolve() / "data"


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study, under `data/<study>/`."""

    root: Path

    def shard(self, shard: int) -> Path:
        """Activation cache of one shard."""
        return self.root / "activation_cache" / f"shard_{shard:05d}.safetensors"

    def stage1(self, n: int) -> Path:
        """Folder of everything stage 1 makes for one n_clusters."""
        return self.root / f"clusters_{n}"

    def clustering(self, n: int) -> Path:
        """Labels, bases and decoder rows of one clustering."""
        return self.stage1(n) / "clustering.safetensors"

    def rows(self, n: int) -> Path:
        """Cluster-major training rows."""
        return self.stage1(n) / "cluster_rows.safetensors"

    def stack(self, n: int, k: int) -> Path:
        """Trained AANets of all clusters at one k, in their subspaces."""
        return self.stage1(n) / f"aanets_k{k}.safetensors"

    def model(self, n: int, cluster_id: int, k: int) -> Path:
        """One full-width AANet."""
        return self.stage1(n) / f"aanet_cluster_{cluster_id}_k{k}.pt"

    def curves(self, n: int) -> Path:
        """Training curves of all clusters and ks."""
        return self.stage1(n) / f"training_curves_n{n}.jsonl"

    def metrics_csv(self, n: int) -> Path:
        """The guide's table."""
        return self.stage1(n) / f"consolidated_metrics_n{n}.csv"

    def plots(self, n: int) -> Path:
        """Folder of the five plots."""
        return self.stage1(n) / "plots"

    @property
    def corpus(self) -> Path:
        """Folder of a corpus that is drawn from a process."""
        return self.root / "corpus"

    def recovery_plot(self, n: int) -> Path:
        """True simplices beside those found."""
        return self.plots(n) / f"recovery_n{n}.png"

    def stage3(self, n: int) -> Path:
        """Folder of everything stage 3 makes for one n_clusters."""
        return self.root / "selected_clusters" / f"n{n}"

    @staticmethod
    def selected_stem(cluster_id: int, k: int, category: str) -> str:
        """First part of the name of each file of a selected cluster."""
        return f"cluster_{cluster_id}_k{k}_category{category}"

    @property
    def tables(self) -> Path:
        """Parquet files, one folder per table."""
        return self.root / "tables"

    @property
    def database(self) -> Path:
        """The DuckDB file made from the Parquet files."""
        return self.root / "metrics.duckdb"

    @property
    def records(self) -> Path:
        """Provenance records, one folder per asset."""
        return self.root / "records"
