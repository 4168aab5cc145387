"""The settings a study is made of, one group per step of the pipeline.

Here belong names, defaults and allowed values; nothing here reads a file or computes.
Every group is frozen and refuses unknown names, so a typing error fails when the study is built.
"""

from typing import Any

from aanet_assets.study.settings.aanets import (
    CLUSTERING_METHODS,
    COOCCURRENCE,
    AANetSettings,
    ClusteringSettings,
    ExtremaSettings,
    RefitSettings,
    RowSettings,
)
from aanet_assets.study.settings.activations import (
    CacheSettings,
    CorpusSettings,
    FitSettings,
    HubSettings,
    LocalSettings,
    PredictionSettings,
    SaeSettings,
    TruthSettings,
)
from aanet_assets.study.settings.base import Settings
from aanet_assets.study.settings.verdicts import (
    BeliefSettings,
    ControlSettings,
    InterpretationSettings,
    SelectionSettings,
    VertexSettings,
)

__all__ = [
    "CLUSTERING_METHODS",
    "COOCCURRENCE",
    "AANetSettings",
    "BeliefSettings",
    "CacheSettings",
    "ClusteringSettings",
    "ControlSettings",
    "CorpusSettings",
    "ExtremaSettings",
    "FitSettings",
    "HubSettings",
    "InterpretationSettings",
    "LocalSettings",
    "PredictionSettings",
    "RefitSettings",
    "RowSettings",
    "SaeSettings",
    "SelectionSettings",
    "Settings",
    "TruthSettings",
    "VertexSettings",
    "refuse_old_names",
]

_CONTROLS_TODAY = (
    "is called controls now: set controls=ControlSettings(...), or in YAML the group controls"
)


def __getattr__(name: str) -> object:
    """Tell a study of an earlier version, which imports the group by its old name, the new one."""
    if name == "TrustSettings":
        raise ImportError(f"the group trust=TrustSettings(...) {_CONTROLS_TODAY}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def refuse_old_names(cls: Any, given: Any) -> Any:
    """Refuse a group of a study that has another name today, by saying which.

    Raises:
        ValueError: there is one.
    """
    if isinstance(given, dict) and "trust" in given:
        raise ValueError(f"the group trust {_CONTROLS_TODAY}")
    return given
