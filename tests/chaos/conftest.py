from collections.abc import Iterator

import pytest

from syncline.stack.progress import Terminal
from tests.chaos.ground import Ground, ground


@pytest.fixture(scope="session")
def battleground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Servers that may be killed, paused and cut off: nobody else's."""
    with ground(tmp_path_factory.mktemp("chaos"), Terminal()) as made:
        yield made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A battle for each seed, ``--seed N`` or ``--seeds FIRST-LAST``, of ``--minutes M``."""
    if {"seed", "seconds"} <= set(metafunc.fixturenames):
        first, _, last = metafunc.config.getoption("seeds").partition("-")
        seconds = 60 * metafunc.config.getoption("minutes")
        within = pytest.mark.timeout(10 * 60 + seconds)
        metafunc.parametrize(
            ("seed", "seconds"),
            [
                pytest.param(seed, seconds, marks=within, id=f"seed {seed}")
                for seed in range(int(first), int(last or first) + 1)
            ],
        )
