"""The real servers that the integration tests run on, started when the first test asks for them."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from syncline.settings import Settings
from syncline.stack.progress import Terminal
from syncline.stack.stack import Stack

TOLD = "told"
"""A property of a test: a line that is shown at the end of the run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here and not in tests/chaos, whose options pytest would know only where that folder is named.
    group = parser.getgroup("chaos")
    group.addoption("--seeds", "--seed", default="1", help="of the chaos suite: one, or FIRST-LAST")
    group.addoption("--minutes", type=float, default=0.5, help="how long each of its seeds lasts")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Here too: where tests run side by side, the process that tells of them loads no folder of tests.
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, line in report.user_properties:
            if name == TOLD:
                terminalreporter.write_line(line)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Shows a line at the end of the run."""
    return partial(record_property, TOLD)


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
