"""`build_defs`: everything Dagster needs to know about one study."""

import sys

import dagster as dg

from aanet_assets.orchestration import automation
from aanet_assets.orchestration.materialise import build_asset
from aanet_assets.orchestration.pipeline import steps_of
from aanet_assets.study.study import Activations, Study, require_module_name


def build_defs(subject: Study | Activations) -> dg.Definitions:
    """Assets, jobs, sensors and schedules of a study, or of activations, as one code location.

    Raises:
        ValueError: the study of a module, as Dagster loads it, has not the module's name.
    """
    study = subject if isinstance(subject, Study) else subject.alone
    caller = sys._getframe(1).f_globals
    is_its_own = any(subject is caller.get(part) for part in ("study", "activations"))
    if is_its_own and caller["__name__"] != "__main__":
        require_module_name(study, caller["__name__"])
    return dg.Definitions(
        # Shared activations belong to the study that they are named for.
        assets=[build_asset(study, s) for s in steps_of(study) if s.home(study) == study.name],
        jobs=automation.jobs(study),
        sensors=automation.sensors(study),
        schedules=automation.gap_schedules(study),
        # A process per step would import torch and sae-lens anew each time.
        executor=dg.in_process_executor,
    )
