from collections.abc import Iterator

import pytest

from operators import window as window_module
from tests.operators.apply_step import Bench
from tests.operators.simulation import wait_for_late_work


@pytest.fixture(autouse=True, scope="session")
def late_work_is_done_when_it_is_waited_for() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_module, "wait", wait_for_late_work)
        yield


@pytest.fixture
def bench() -> Bench:
    return Bench()
