"""The real servers that the integration tests run on, started when the first test asks for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.settings import Settings
from syncline.stack.progress import Terminal
from syncline.stack.stack import Stack


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here and not in tests/chaos, whose options pytest would know only where that folder is named.
    group = parser.getgroup("chaos")
    group.addoption("--seeds", "--seed", default="1", help="of the chaos suite: one, or FIRST-LAST")
    group.addoption("--minutes", type=float, default=0.5, help="how long each of its seeds lasts")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Stack]:
    """All four servers, up. SYNCLINE_TEST_HOME names a home whose servers are used and left running; where
    tests run side by side, each process of them has its own servers, and ends them."""
    kept = os.environ.get("SYNCLINE_TEST_HOME")
    if kept and worker_id == "master":
        stack = Stack(Path(kept))
        stack.up(Terminal())
        yield stack
        return
    stack = Stack(tmp_path_factory.mktemp("home"))
    with stack.while_this_process_lives(Terminal()):
        yield stack


@pytest.fixture(scope="session")
def settings(stack: Stack) -> Settings:
    """Settings that point at the session's servers."""
    return Settings(home=stack.home, **stack.addresses())
