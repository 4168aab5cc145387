"""A study through Ray and PostgreSQL, with the settings in deploy/ray."""

from collections.abc import Iterator
from contextlib import ExitStack

import dagster as dg
import pytest

from aanet_assets import defs as studies
from aanet_assets.orchestration.driver import plan
from aanet_assets.orchestration.submit import Submission
from aanet_assets_tests.conftest import said
from aanet_assets_tests.scale import servers
from aanet_assets_tests.scale.clusters import Cluster, open_cluster, scratch, wait_for
from aanet_assets_tests.small import small_study
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


def test_cancelling_comes_to_its_end_while_rays_head_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = small_study()
    with scratch() as folder, ExitStack() as head:
        address = head.enter_context(servers.ray(folder / "ray"))
        with open_cluster(folder, "ray", {"AANET_RAY_ADDRESS": address}) as cluster:
            own = [*studies.__path__, str(cluster.home.folder / "studies")]
            monkeypatch.setattr(studies, "__path__", own)
            next(Submission(study, cluster.instance, plan(study)).watch())
            wait_for(lambda: cluster.runs(dg.DagsterRunStatus.STARTED) or None)
            head.close()
            output = said("run", "small", "--cancel", code=0)
            assert "Cancelled; what was finished is kept." in output
            assert not cluster.dagit.unfinished_runs()
            print(output)
