"""The study that Dagit shows, apart: Dagit's processes load this, and no library of the tests."""

from aanet_assets.study.study import Study
from aanet_assets_tests.small import small_study

SEED = small_study().aanet.seed
"""With which the finished study was trained."""


def study_with(seed: int) -> Study:
    """The small study with one n_clusters more, shards in pairs, and with this seed of its AANets.

    With another seed than its own all are trained anew, and so but shortly.
    """
    study = small_study(n_clusters=(6, 7, 8))
    changes = {"seed": seed} if seed == SEED else {"seed": seed, "max_steps": 20}
    return study.model_copy(
        update={
            "aanet": study.aanet.model_copy(update=changes),
            "cache": study.cache.model_copy(update={"shards_per_run": 2}),
        }
    )
