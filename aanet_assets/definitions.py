"""What `dagster dev` and `dg` load: every study of `aanet_assets/defs`, in one code location."""

import dagster as dg

from aanet_assets.orchestration.studies import all_definitions


@dg.definitions
def defs() -> dg.Definitions:
    """Every study."""
    return all_definitions()
