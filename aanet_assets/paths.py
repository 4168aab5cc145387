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


def fingerprints() -> Path:
    """Folder of what is kept of the contents of input files."""
    return data_root() / ".fingerprints"


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

    def null_clustering(self, n: int) -> Path:
        """Labels, bases and decoder rows of the null clusters."""
        return self.stage1(n) / "null_clustering.safetensors"

    def null_rows(self, n: int) -> Path:
        """Cluster-major training rows of the null clusters."""
        return self.stage1(n) / "null_rows.safetensors"

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

    def review(self, n: int) -> Path:
        """The page for people."""
        return self.stage1(n) / f"review_n{n}.html"

    @property
    def corpus(self) -> Path:
        """Folder of a corpus that is made here."""
        return self.root / "corpus"

    @property
    def prose(self) -> Path:
        """Corpus gathered from installed software."""
        return self.corpus / "prose.parquet"

    @property
    def language_model(self) -> Path:
        """Folder of a language model that is made here."""
        return self.root / "model"

    @property
    def sae(self) -> Path:
        """Folder of an SAE that is trained here, and of how good it is (`training.json`)."""
        return self.root / "sae"

    def recovery_plot(self, n: int) -> Path:
        """True simplices beside those found."""
        return self.plots(n) / f"recovery_n{n}.png"

    def stage3(self, n: int) -> Path:
        """Folder of everything stage 3 makes for one n_clusters."""
        return self.root / "selected_clusters" / f"n{n}"

    def stage3_manifest(self, n: int) -> Path:
        """What stage 3 made for one n_clusters."""
        return self.stage3(n) / "manifest.json"

    @property
    def manifest(self) -> Path:
        """What stage 3 made for all of them; derived, and so of no partition."""
        return self.root / "selected_clusters" / "manifest.json"

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

    @property
    def locks(self) -> Path:
        """Locks of the partitions that are being made, one folder per asset."""
        return self.root / "locks"

    def everything(self) -> list[Path]:
        """All files in the study's folder; links to folders elsewhere are not followed."""
        return sorted(path for path in self.root.rglob("*") if not path.is_dir())


NAMES = {
    "corpus": ("corpus/corpus.parquet",),
    "language_model": ("model/*",),
    "prose": ("corpus/prose.parquet",),
    "sae": ("sae/*",),
    "sae_fit": ("tables/sae_fit/all.parquet",),
    "activation_cache": (
        "activation_cache/shard_{shard}.safetensors",
        "activation_cache/.shard_{shard}.*.blocks/*",
        "activation_cache/.shard_{shard}.*.blocks/*/*",
        "tables/cache_shards/shard{shard}.parquet",
    ),
    "clustering": ("clusters_{n}/clustering.safetensors",),
    "cluster_rows": (
        "clusters_{n}/cluster_rows.safetensors",
        "tables/clusters/n{n}.parquet",
    ),
    "aanet_models": (
        "clusters_{n}/aanets_k{k}.safetensors",
        "tables/training_curves/n{n}_k{k}.parquet",
    ),
    "aanet_exports": ("clusters_{n}/aanet_cluster_*_k{k}.pt",),
    "aanet_metrics": ("tables/aanet_metrics/n{n}_k{k}.parquet",),
    "consolidated_metrics": (
        "clusters_{n}/consolidated_metrics_n*.csv",
        "clusters_{n}/training_curves_n*.jsonl",
        "tables/consolidated_metrics/n{n}.parquet",
    ),
    "null_clusters": (
        "clusters_{n}/null_clustering.safetensors",
        "clusters_{n}/null_rows.safetensors",
        "tables/null_clusters/n{n}.parquet",
    ),
    "cluster_shapes": (
        "tables/cluster_shapes/n{n}.parquet",
        "tables/chance_groups/n{n}.parquet",
    ),
    "replicates": ("tables/replicates/n{n}_k{k}.parquet",),
    "evidence": ("tables/evidence/n{n}.parquet",),
    "review_page": ("clusters_{n}/review_n*.html",),
    "recovery": (
        "clusters_{n}/plots/recovery_n*.png",
        "tables/recovery/n{n}.parquet",
    ),
    "reproducibility": (
        "clusters_{n}/plots/reproducibility_n*.png",
        "tables/reproducibility/n{n}.parquet",
    ),
    "selected_clusters": (
        "clusters_{n}/plots/selection_funnel_n*.png",
        "tables/selected_clusters/n{n}.parquet",
        "tables/selection_funnel/n{n}.parquet",
    ),
    "analysis_plots": ("clusters_{n}/plots/*_n*.png",),
    "vertex_samples": (
        "selected_clusters/n{n}/cluster_*_vertex_*.json*",
        "selected_clusters/n{n}/manifest.json",
        "tables/vertex_samples/n{n}.parquet",
        "tables/vertex_stats/n{n}.parquet",
    ),
    "refit_models": (
        "selected_clusters/n{n}/cluster_*.pt",
        "selected_clusters/n{n}/cluster_*_metadata.json",
        "selected_clusters/n{n}/cluster_*_curves.json",
    ),
}
"""Names of every step's files, relative to the study's folder; the first that fits counts.

`{n}`, `{k}` and `{shard}` stand for the partition's numbers, `*` for anything within a name.
"""
