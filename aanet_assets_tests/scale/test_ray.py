"""A study through Ray and PostgreSQL, with the settings in deploy/ray."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

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
from aanet_assets_tests.torture.home import Home

for package, extra in (("dagster_postgres", "postgres"), ("dagster_ray", "ray")):
    pytest.importorskip(package, reason=f"the extra `{extra}` is not installed")
_MISSING = servers.missing_for_ray()
pytestmark = [
    pytest.mark.scale,
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
]
STARTED, SUCCESS = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS


@contextmanager
def cluster_on(folder: Path, ray: servers.Ray) -> Iterator[Cluster]:
    """A project's folder whose runs go to a Ray, as commands of this process see it."""
    with (
        open_cluster(folder, "ray", {"AANET_RAY_ADDRESS": ray.address}) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        # In the place of another cluster's, if there is one.
        patch.setattr(
            studies, "__path__", [studies.__path__[0], str(cluster.home.folder / "studies")]
        )
        yield cluster


@pytest.fixture(scope="module")
def ray() -> Iterator[servers.Ray]:
    with scratch() as folder, servers.ray(folder / "ray") as ray:
        yield ray


@pytest.fixture(scope="module")
def cluster(ray: servers.Ray) -> Iterator[Cluster]:
    with scratch() as folder, cluster_on(folder, ray) as cluster:
        yield cluster


def test_a_study_through_ray_equals_the_local_run(
    expected: State, cluster: Cluster, ray: servers.Ray
) -> None:
    cluster.run_all()

    assert differences(expected, state(cluster.home.paths)) == []
    runs = cluster.instance.get_runs()
    assert {run.status for run in runs} == {SUCCESS}
    assert len({ray.node_of(run.run_id) for run in runs}) == 2


def test_runs_of_a_node_that_is_lost_are_queued_again(
    expected: State, local: Home, cluster: Cluster, ray: servers.Ray
) -> None:
    if not cluster.home.paths.root.exists():
        shutil.copytree(local.paths.root, cluster.home.paths.root)
    cluster.lose_in_training(
        lambda _: ray.kill_second(), lambda run: ray.node_of(run.run_id) != ray.head()
    )
    assert differences(expected, state(cluster.home.paths)) == []
    assert "All is well." in said("doctor", "small", code=0)


def test_cancelling_comes_to_its_end_while_rays_head_is_gone() -> None:
    study = small_study()
    with scratch() as folder, ExitStack() as head:
        ray = head.enter_context(servers.ray(folder / "ray"))
        with cluster_on(folder, ray) as cluster:
            next(Submission(study, cluster.instance, plan(study)).watch())
            wait_for(lambda: cluster.runs(STARTED) or None)
            head.close()
            gone = time.monotonic()
            assert "Cancelled; what was finished is kept." in said(
                "run", "small", "--cancel", code=0
            )
            print(f"canceled after {time.monotonic() - gone:.0f} s")
            assert not cluster.dagit.unfinished_runs()
