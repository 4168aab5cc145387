"""What tests of studies in a bucket share."""

from collections.abc import Callable
from pathlib import Path

from aanet_assets.orchestration.materialise import run_step
from aanet_assets.steps.inputs import corpus
from aanet_assets.storage.bucket import Bucket
from aanet_assets.storage.step import Partition
from aanet_assets.study.study import Study

CORPUS = corpus.at()
Enter = Callable[[str], Path]
"""Goes to a project's folder by its name, as to another machine."""


def bucket_of(study: Study) -> Bucket:
    return Bucket(f"{study.remote}/{study.name}")


def make(study: Study, partition: Partition = CORPUS) -> None:
    list(run_step(study, partition))
