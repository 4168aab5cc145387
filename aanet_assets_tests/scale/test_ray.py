"""A study through Ray and PostgreSQL, with the settings in deploy/ray."""

from collections.abc import Iterator

import dagster as dg
import pytest

from aanet_assets_tests.scale import servers
from aanet_assets_tests.scale.clusters import Cluster, open_cluster, scratch
from aanet_assets_tests.torture.compare import State, differences, state

for package, extra in (("dagster_postgres", "postgres"), ("dagster_ray", "ray")):
    pytest.importorskip(package, reason=f"the extra `{extra}` is not installed")
_MISSING = servers.missing_for_ray()
pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with (
        scratch() as folder,
        servers.ray(folder / "ray") as address,
        open_cluster(folder, "ray", {"AANET_RAY_ADDRESS": address}) as cluster,
    ):
        yield cluster


def test_a_study_through_ray_equals_the_local_run(expected: State, cluster: Cluster):
    cluster.run_all()

    assert differences(expected, state(cluster.home.paths)) == []
    runs = cluster.instance.get_runs()
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
