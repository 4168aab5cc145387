"""A finished study, opened: its clusters, and their simplices."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from aanet_assets.explore.provenance import Provenance
from aanet_assets.explore.reader import Reader, on_this_machine
from aanet_assets.explore.simplex import Simplex
from aanet_assets.orchestration.studies import load_study, load_study_file
from aanet_assets.science.aanet.export import aanet_of, load_aanet, load_stack, state_dict
from aanet_assets.science.aanet.reference import AANet
from aanet_assets.science.activations.architecture import load_config
from aanet_assets.science.activations.rows import Cluster, load_cluster
from aanet_assets.science.activations.sae import (
    hook_of,
    load_sae,
    of_latents,
    prepends_bos,
    reads_centred,
)
from aanet_assets.science.vertices.selected import Chosen, chosen_of
from aanet_assets.steps.aanets import STACK, aanet_models
from aanet_assets.steps.activations import at_commits
from aanet_assets.steps.clusters import CLUSTERING, CLUSTERS, cluster_rows, clustering
from aanet_assets.steps.selection import SELECTED_CLUSTERS, selected_clusters
from aanet_assets.steps.vertices import (
    METADATA,
    MODEL,
    VERTEX_SAMPLES,
    refit_models,
    vertex_samples,
)
from aanet_assets.storage.inputs import input_hashes
from aanet_assets.storage.records import (
    MISSING,
    NotReadyError,
    Standing,
    fetch_files,
    read_record,
    require_as_recorded,
)
from aanet_assets.storage.remote import pull
from aanet_assets.storage.run import Run
from aanet_assets.storage.step import Partition
from aanet_assets.study.layout import File, data_root
from aanet_assets.study.study import Study

if TYPE_CHECKING:
    from sae_lens import SAE


def open_study(study: str | Path | Study) -> "OpenStudy":
    """A study that has been run, at least to its AANets.

    Args:
        study: its name in the project's folder (`AANET_HOME`, else the working directory); the path
            of its module, `mine.py`; or the study itself.

    Raises:
        ValueError: there is no such study, its file cannot be used, or this is no project's folder.
        ConnectionError: its results are kept in object storage that cannot be reached.
    """
    if isinstance(study, Study):
        return OpenStudy(study)
    home = data_root().parent
    if not (home / "dagster.yaml").is_file():
        raise ValueError(
            f"{home} is not a project's folder (it has no dagster.yaml): start in one, or set "
            "AANET_HOME to it"
        )
    if isinstance(study, Path) or study.endswith(".py"):
        return OpenStudy(load_study_file(Path(study)))
    return OpenStudy(load_study(study).study)


class OpenStudy:
    """A study whose results are read; `open_study` gives one.

    It tells what there was when it was opened. Model and SAE are loaded once, when they are needed
    first, and then kept.
    """

    def __init__(self, study: Study):
        pull(study)
        self.study = study
        self._standing = Standing(study)

    def __repr__(self) -> str:
        return f"<OpenStudy {self.study.name!r}>"

    @cached_property
    def _pinned(self) -> Study:
        """The study with the commits of a hub that its results were made from."""
        return at_commits(self.study, fitted=True)

    @cached_property
    def _sae(self) -> "SAE":
        return load_sae(self._pinned.sae, on_this_machine(self.study).device)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(
            on_this_machine(self._pinned),
            str(hook_of(self._sae)),
            centred=reads_centred(self._sae),
            wants_bos=prepends_bos(self._sae),
        )

    def load_model(self) -> None:
        """Load SAE and language model, head included, now and not when they are needed first.

        Raises:
            ValueError: they cannot be read, or the model cannot be split at the hook.
            ConnectionError: they could not be had from a hub.
        """
        _ = self._reader.vocabulary

    def selected(self, n: int) -> list[Chosen]:
        """The selected clusters of one n_clusters: `cluster_id`, `k`, `category`, `k_source`.

        Raises:
            ValueError: the study has no such n_clusters.
            NotReadyError: the selection has not been made, or not with the study as it is now.
        """
        self._require_n(n)
        self._require(selected_clusters.at(n=n))
        return chosen_of(Run(self.study, selected_clusters.at(n=n)).read(SELECTED_CLUSTERS))

    def simplex(self, n: int, cluster: int, k: int | None = None) -> Simplex:
        """The simplex of one cluster.

        Of a cluster that is selected at this k, it is that of the model of stage 3, which vertex
        samples are from; else that of the model of stage 1.

        Args:
            n: n_clusters of the clustering.
            cluster: the cluster's id in it.
            k: number of vertices; by default that at which the cluster is selected.

        Raises:
            ValueError: the study has no such n_clusters, cluster or k; no k is given for a cluster
                that is not selected; or the cluster has no model.
            NotReadyError: what is needed has not been made, or not with the study as it is now.
        """
        self._require_n(n)
        if not 0 <= cluster < n:
            raise ValueError(
                f"there is no cluster {cluster} in n_clusters {n}: its ids run from 0 to {n - 1}"
            )
        chosen = self._chosen(n, cluster)
        if k is None and chosen is None:
            self._require(selected_clusters.at(n=n))
            raise ValueError(
                f"cluster {cluster} of n_clusters {n} is not selected, so that its k has to be "
                f"given: one of {', '.join(map(str, self.study.ks))}"
            )
        read: list[Partition] = [clustering.at(n=n), cluster_rows.at(n=n)]
        if chosen is not None and k in (None, chosen.k):
            made = refit_models.at(n=n)
        else:
            if k not in self.study.ks:
                raise ValueError(
                    f"study {self.study.name!r} has no models of k={k}; it has the ks "
                    f"{', '.join(map(str, self.study.ks))}"
                )
            assert k is not None
            made, chosen = aanet_models.at(n=n, k=k), None
        read.append(made)
        self._require(*read)
        group = load_cluster(self._file(CLUSTERING, clustering.at(n=n)), cluster)
        model = self._refit(made, chosen) if chosen else self._of_stage1(made, group)
        parts = self._with_sae(group, model, chosen, read)
        return Simplex(*parts, self._reader, self._samples(n, chosen))

    def _chosen(self, n: int, cluster: int) -> Chosen | None:
        """How a cluster is selected; None if it is not, or nothing has been selected yet."""
        if self._standing.problem(selected_clusters.at(n=n)) == MISSING:
            return None
        return next((one for one in self.selected(n) if one.cluster_id == cluster), None)

    def _refit(self, made: Partition, chosen: Chosen) -> AANet:
        file = self._file(MODEL, made, **chosen.named)
        if not file.is_file():
            why = json.loads(self._file(METADATA, made, **chosen.named).read_text(encoding="utf-8"))
            raise ValueError(_no_model(made, chosen.cluster_id, chosen.k, **_status(why)))
        return load_aanet(file, self.study.aanet.simplex_scale)

    def _of_stage1(self, made: Partition, group: Cluster) -> AANet:
        models = load_stack(self._file(STACK, made))
        own = next(model for model in models if model.cluster_id == group.cluster_id)
        if own.status != "ok":
            raise ValueError(_no_model(made, group.cluster_id, own.k, own.status, own.reason))
        return aanet_of(state_dict(own, group.basis), self.study.aanet.simplex_scale)

    def _with_sae(
        self, group: Cluster, model: AANet, chosen: Chosen | None, read: list[Partition]
    ) -> "tuple[Provenance, Cluster, AANet, SAE]":
        n = read[0].at.numbers["n"]
        table = Run(self.study, cluster_rows.at(n=n)).read(CLUSTERS)
        (row,) = table[table["cluster_id"] == group.cluster_id].to_dict("records")
        own = of_latents(self._sae, group.latents)
        pinned, kept, about = self._pinned, own or self._sae, self._sae.cfg.metadata
        records = {str(part): read_record(self.study, part) for part in read}
        provenance = Provenance(
            study=self.study.name,
            n_clusters_total=n,
            cluster_id=group.cluster_id,
            k=len(model.vertices),
            category=None if chosen is None else chosen.category,
            made_by=read[-1].step.name,
            model=pinned.model,
            model_revision=pinned.revision,
            sae=pinned.sae.name,
            sae_revision=pinned.sae.revision,
            hook=str(hook_of(self._sae)),
            layers=load_config(pinned).get_text_config().num_hidden_layers,
            latent_indices=group.latents.tolist(),
            activity_limit=float(row["activity_limit"]),
            norm_limit=None if pd.isna(row["norm_limit"]) else float(row["norm_limit"]),
            centred=reads_centred(self._sae),
            wants_bos=prepends_bos(self._sae),
            neuronpedia_model=str(about.neuronpedia_id or pinned.model).split("/")[
                0 if about.neuronpedia_id else -1
            ],
            settings=pinned.model_dump(mode="json"),
            contents={name: record.content for name, record in records.items() if record},
            model_files=input_hashes(pinned, "model"),
            sae_config=kept.cfg.to_dict(),
            only_own_latents=own is not None,
        )
        return provenance, group, model, kept

    def _samples(self, n: int, chosen: Chosen | None) -> pd.DataFrame | str:
        """The vertex samples of a selected cluster, or why there are none."""
        made = vertex_samples.at(n=n)
        if chosen is None:
            return (
                "they are kept of selected clusters at their own k; open_study(...).selected(n) "
                "tells which"
            )
        if problem := self._standing.problem(made):
            return (
                f"{made} {problem}. Run: aanet run {self.study.name} --until {made.step.name} "
                f"--n-clusters {n}"
            )
        fetch_files(self.study, [made])
        table = Run(self.study, made).read(VERTEX_SAMPLES)
        return table[table["cluster_id"] == chosen.cluster_id].reset_index(drop=True)

    def _file(self, file: File, made: Partition, **values: object) -> Path:
        return Run(self.study, made).path(file, **values)

    def _require_n(self, n: int) -> None:
        if n not in self.study.n_clusters:
            raise ValueError(
                f"study {self.study.name!r} has no n_clusters {n}; it has "
                f"{', '.join(map(str, self.study.n_clusters))}"
            )

    def _require(self, *partitions: Partition) -> None:
        """Refuse what is missing or stale; fetch what is kept in object storage."""
        for partition in partitions:
            if problem := self._standing.problem(partition):
                raise NotReadyError(
                    f"{partition} of study {self.study.name!r} {problem}. Run: aanet run "
                    f"{self.study.name} --until {partition.step.name} --n-clusters {partition.n}"
                )
        fetch_files(self.study, partitions)
        require_as_recorded(self.study, partitions, f"a simplex of study {self.study.name!r}")


def _status(metadata: dict[str, object]) -> dict[str, str]:
    return {name: str(metadata[name]) for name in ("status", "reason")}


def _no_model(made: Partition, cluster: int, k: int, status: str, reason: str) -> str:
    return (
        f"cluster {cluster} of n_clusters {made.n} has no model at k={k}: {status} ({reason}); "
        "choose another cluster or k"
    )
