"""What a finished partition costs of the database, and what it costs to make it anew.

`python -m aanet_assets_tests.benchmarks.tables 100 1000 10000` prints a table: so many partitions
of `replicates` with 100 rows each, one of them replaced again and again.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pandas as pd

from aanet_assets.orchestration.pipeline import all_steps
from aanet_assets.steps.evidence import REPLICATES, replicates
from aanet_assets.storage import warehouse
from aanet_assets.study.layout import StudyPaths

TABLES = [table for step in all_steps() for table in step.tables]
ROWS = 100
REPLACED = 30


def measure(partitions: int) -> dict[str, float]:
    """Times in seconds, sizes in megabytes, for so many partitions."""
    with tempfile.TemporaryDirectory() as folder:
        paths = StudyPaths(Path(folder) / "study")
        for i in range(partitions):
            _write(paths, i, 0.0)
        anew = _timed(paths)
        before = paths.database.stat().st_size
        each = []
        for i in range(REPLACED):
            _write(paths, i % partitions, float(i))
            each.append(_timed(paths))
        return {
            "partitions": partitions,
            "anew": anew,
            "one replaced, median": median(each),
            "one replaced, most": max(each),
            "nothing to do": _timed(paths),
            "MB": before / 1e6,
            f"MB after {REPLACED} replacements": paths.database.stat().st_size / 1e6,
        }


def _write(paths: StudyPaths, i: int, loss: float) -> None:
    n, k = divmod(i, 10)
    rows = pd.DataFrame(
        {
            **dict.fromkeys(REPLICATES.names),
            "cluster_id": range(ROWS),
            "n_clusters_total": n,
            "k": k,
            "replicate": 0,
            "null_cluster": False,
            "aanet_recon_loss": loss,
        }
    )
    partition = replicates.at(n=n, k=k)
    REPLICATES.write(REPLICATES.file(paths.tables, partition.at.stem), rows)


def _timed(paths: StudyPaths) -> float:
    started = time.perf_counter()
    warehouse.update(paths, TABLES)
    return time.perf_counter() - started


if __name__ == "__main__":
    found = pd.DataFrame([measure(int(count)) for count in sys.argv[1:]])
    print(found.round(3).to_string(index=False))
