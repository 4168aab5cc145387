"""What runs of an engine are compared with."""

import dagster as dg
import pytest

from aanet_assets.orchestration.driver import Driver, plan
from aanet_assets_tests.small import small_study
from aanet_assets_tests.torture.compare import State, state
from aanet_assets_tests.torture.home import Home, new_home


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The study, run in this process."""
    home = new_home(tmp_path_factory.mktemp("local") / "home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AANET_HOME", "DAGSTER_HOME"):
            patch.setenv(name, str(home.folder))
        patch.chdir(home.folder)
        with dg.DagsterInstance.get() as instance:
            driver = Driver(small_study(), instance)
            for partition in plan(small_study()):
                driver.materialise(partition)
    return home


@pytest.fixture(scope="session")
def expected(local: Home) -> State:
    """All its files and tables."""
    return state(local.paths)
