"""What a simplex was made from, as a file of it says."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from aanet_assets.storage.inputs import input_hashes
from aanet_assets.study.study import Study


class Provenance(BaseModel):
    """Where a simplex comes from, and all that projecting needs beside its tensors."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    study: str
    """Name of the study."""
    n_clusters_total: int
    """Number of clusters of its clustering."""
    cluster_id: int
    """The cluster."""
    k: int
    """Number of vertices."""
    category: str | None
    """Category of its selection; None where it is not selected at this k."""
    made_by: str
    """The step whose AANet it is: of stage 3 where the cluster is selected at this k, else of
    stage 1."""
    model: str
    """The language model."""
    model_revision: str | None
    """Its commit, of a model on a hub."""
    sae: str
    """The SAE: release and id, or a directory."""
    sae_revision: str | None
    """Its commit, of an SAE on a hub."""
    hook: str
    """The point of the residual stream, as `blocks.20.hook_resid_post`."""
    layers: int
    """Layers of the model."""
    latent_indices: list[int]
    """The cluster's latents."""
    activity_limit: float
    """Summed activation above which the cluster is active."""
    norm_limit: float | None
    """Length of the residual stream above which a token is left out; None where none is."""
    centred: bool
    """Whether the SAE reads a stream whose vectors have mean zero."""
    wants_bos: bool
    """Whether the SAE was trained on sequences that begin with BOS."""
    neuronpedia_model: str
    """Neuronpedia's name for the model, as far as the SAE's config tells it."""
    settings: dict[str, Any]
    """All settings of the study."""
    contents: dict[str, str]
    """Digest of the content of each partition that was read, by name."""
    model_files: dict[str, str]
    """SHA-256 of each file of a model in a directory."""
    sae_config: dict[str, Any]
    """The SAE's config as SAELens writes it, of what of it is kept."""
    only_own_latents: bool
    """Whether the encoder is that of the cluster's latents alone. It is whole where the code of a
    latent depends on others, as where the largest k are kept."""

    @property
    def name(self) -> str:
        """For people."""
        return f"cluster {self.cluster_id} of n_clusters {self.n_clusters_total} at k={self.k}"

    def study_now(self) -> Study:
        """The study as it was, for its model to be loaded again.

        Raises:
            ValueError: its settings are not those of this version of the code, or the files of its
                model are not those that the simplex was made with.
        """
        try:
            study = Study.model_validate(self.settings)
        except ValidationError as error:
            raise ValueError(
                f"the settings of study {self.study!r} in this file are of another version of "
                f"aanet_assets ({error.error_count()} do not fit): open the study instead"
            ) from None
        now = input_hashes(study, "model")
        if now != self.model_files:
            gone = sorted(set(self.model_files) - set(now))
            what = f"{gone[0]} is not there" if gone else "its files are others than then"
            raise ValueError(
                f"the model {self.model}, with which {self.name} was made, cannot be used: {what}; "
                "set AANET_HOME to the project's folder that has it, or project residual streams "
                "with project_residual"
            )
        return study
