import pytest

from tests.operators.apply_step import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
