"""A study, or activations, as a component of Dagster: in YAML, by its own loading, or in Python."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import dagster as dg
from pydantic import BaseModel, Discriminator, Field, RootModel, Tag, create_model, model_validator

from aanet_assets.orchestration.build import build_defs
from aanet_assets.orchestration.studies import load_study
from aanet_assets.study.settings import Settings, refuse_old_names
from aanet_assets.study.study import Activations, Study

_OWN = {
    name: (field.annotation, field)
    for name, field in Study.model_fields.items()
    if name not in Activations.model_fields and name != "activations"
}
_Sharing = create_model(
    "SharingStudy",
    __base__=Settings,
    __validators__={"old_names": model_validator(mode="before")(refuse_old_names)},  # pyright: ignore
    name=(str, Field(description="Name of the study and of its folder.")),
    activations=(
        str,
        Field(description="Name of the activations, or of the study whose they are."),
    ),
    **_OWN,  # pyright: ignore
)


def _kind(given: object) -> str:
    shares = isinstance(given, dict) and "activations" in given and "model" not in given
    return "sharing" if shares else "study"


class StudyAttributes(
    RootModel[
        Annotated[
            Annotated[Study, Tag("study")] | Annotated[_Sharing, Tag("sharing")],  # pyright: ignore
            Discriminator(_kind),
        ]
    ]
):
    """The fields of `Study`; or a name, `activations` of another study, and what is its own."""


class ActivationsScaffolder(dg.Scaffolder):
    """Writes activations that are complete but for the paths of their model, SAE and corpus."""

    further: ClassVar[dict[str, Any]] = {}
    """What a study has beside them."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write `defs.yaml`."""
        name = Path(request.target_path).name
        dg.scaffold_component(
            request,
            {
                "name": name,
                "model": "path/to/a/hugging-face-model",
                "sae": {"directory": "path/to/a/saelens-sae"},
                "corpus": {"files": "path/to/*.parquet"},
                **self.further,
            },
        )


class StudyScaffolder(ActivationsScaffolder):
    """Writes a study that is complete but for the same."""

    further: ClassVar[dict[str, Any]] = {"n_clusters": [64, 128], "ks": [2, 3, 4, 5]}


@dg.scaffold_with(ActivationsScaffolder)
class ActivationsComponent(dg.Component):
    """Activations by themselves: a model, an SAE and a corpus, for studies to share."""

    def __init__(self, study: Study):
        self.study = study

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The attributes in `defs.yaml`."""
        return Activations

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """From the attributes in `defs.yaml`."""
        return cls(Activations.model_validate(attributes).alone)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Assets, jobs, sensors and schedules."""
        return build_defs(self.study)


@dg.scaffold_with(StudyScaffolder)
class StudyComponent(ActivationsComponent):
    """A study: activations, and how to look for simplices in them."""

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The attributes in `defs.yaml`."""
        return StudyAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """From the attributes in `defs.yaml`."""
        own: Any = StudyAttributes.model_validate(attributes).root
        if isinstance(own, Study):
            return cls(own)
        fields = {name: getattr(own, name) for name in own.model_fields_set}
        activations = load_study(fields.pop("activations")).study
        return cls(activations.sharing(**fields))
