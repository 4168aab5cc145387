"""What a step obeys: settings of the study, contents of the files they name, its code's version."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from aanet_assets.storage.inputs import input_hashes
from aanet_assets.storage.step import Step
from aanet_assets.study.study import Study

CODE = "code"
FILES = " files"
"""Ending of the name under which the contents of a setting's input files stand."""


def settings_values(
    study: Study, step: Step, n: int | None = None, *, contents: bool = True
) -> dict[str, Any]:
    """What a step obeys, by name.

    Settings of a whole group stand one by one, as `rows.threshold` does.

    Args:
        n: of the files that belong to one n_clusters each, as labels do, only its own count.
        contents: whether the contents of input files are among them, which takes reading files
            that nobody has looked at yet.
    """
    of_n = study if n is None else study.model_copy(update={"n_clusters": (n,)})
    values: dict[str, Any] = {"name": step.home(study), CODE: step.code_version}
    dump = study.model_dump(mode="json")
    for name in step.settings:
        group, _, field = name.partition(".")
        # Of a group that the study does without, a field has no value either.
        value = dump[group][field] if field and dump[group] is not None else dump[group]
        if not field and isinstance(value, dict):
            values |= {f"{group}.{own}": one for own, one in value.items()}
        else:
            values[name] = value
        if contents and (hashes := input_hashes(of_n, name)):
            values[f"{name}{FILES}"] = hashes
    return values


def digest_of(values: Mapping[str, Any]) -> str:
    """Short hash of what `settings_values` found."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def settings_digest(study: Study, step: Step) -> str:
    """Short hash of all that a step obeys."""
    return digest_of(settings_values(study, step))
