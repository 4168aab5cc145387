"""The finished study, opened, and its first simplex."""

import pytest

from aanet_assets import Simplex, open_study
from aanet_assets.explore.opened import OpenStudy
from aanet_assets_tests.conftest import Finished
from aanet_assets_tests.explore.texts import active_text

N = 7


@pytest.fixture(scope="module")
def opened(finished: Finished) -> OpenStudy:
    return open_study(finished.study)


@pytest.fixture(scope="module")
def simplex(opened: OpenStudy) -> Simplex:
    return opened.simplex(N, 0)


@pytest.fixture(scope="module")
def text(simplex: Simplex) -> str:
    return active_text(simplex)
