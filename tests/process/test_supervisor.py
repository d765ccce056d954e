"""A flow that is kept alive: started again when it dies, later each time, and with a word of why."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncline.last_words import heard
from syncline.model.errors import BadCredentials, MissingResource, remedy_of
from syncline.settings import Settings
from syncline.supervisor import HEALTHY, Backoff, Ends, Supervisor
from tests.log import Log
from tests.own import but
from tests.process.test_flow import is_indexed, produce
from tests.services.database import Database
from tests.waiting import eventually

AT_ONCE = Backoff(timedelta(seconds=0.1), timedelta(seconds=0.2))


def test_waits_grow_up_to_a_bound_and_are_drawn_evenly() -> None:
    backoff = Backoff(timedelta(seconds=0.5), timedelta(seconds=30))
    longest = [backoff.wait(n, is_fatal=False, draw=lambda: 1.0).total_seconds() for n in range(1, 9)]
    assert longest == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.wait(5, is_fatal=False, draw=lambda: 0.25).total_seconds() == 2
    assert backoff.wait(100_000, is_fatal=False, draw=lambda: 1.0).total_seconds() == 30


def test_what_only_a_person_can_mend_is_tried_at_the_longest_interval() -> None:
    assert Backoff().wait(1, is_fatal=True, draw=lambda: 0.0) == Backoff().longest


def test_three_ends_in_a_row_are_a_loop_and_a_healthy_stretch_begins_anew() -> None:
    ends, now = Ends(), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        assert not ends.are_a_loop
        ends.add(timedelta(seconds=1), now + timedelta(seconds=number))
    assert ends.are_a_loop
    assert ends.since == now
    ends.add(HEALTHY, now + timedelta(hours=1))
    assert not ends.are_a_loop
    assert ends.since == now + timedelta(hours=1)


def test_each_error_that_a_person_mends_says_how() -> None:
    assert remedy_of("MissingResource: the alias x does not exist") == MissingResource.remedy
    assert remedy_of("BadCredentials: no") == BadCredentials.remedy
    assert remedy_of("KeyError: 'x'") == remedy_of("") == "read the flow's log"


def test_words_that_are_not_whole_are_none(tmp_path: Path) -> None:
    assert heard(tmp_path) is None
    (tmp_path / "last_words.json").write_bytes(b'{"error": "Ki')
    assert heard(tmp_path) is None


@contextmanager
def supervised(supervisor: Supervisor) -> Iterator[list[int]]:
    """Runs it within the block, in a thread; the exit code, once it has ended."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run()))
    thread.start()
    try:
        yield codes
    finally:
        supervisor.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_a_crash_loop_says_why_and_ends_when_the_settings_are_corrected(
    own: Settings, log: Log, database: Database, tmp_path: Path
) -> None:
    produce(log, own, "supervised")
    alias = ["own-nowhere"]

    def load() -> Settings:
        return but(own, home=tmp_path, search_alias=alias[0])

    def told() -> list[str]:
        rows = database.ask("SELECT error FROM sync.status WHERE state = 'failed' ORDER BY id")
        return [error for (error,) in rows]

    supervisor = Supervisor("catalog_search", 1, load, AT_ONCE, tmp_path / "flow.log")
    with supervised(supervisor) as codes:
        eventually(lambda: any("crash loop" in error for error in told()), what="word of the crash loop")
        [first, *_] = told()
        assert first == "MissingResource: the alias own-nowhere does not exist; run: syncline setup"
        in_a_loop = next(error for error in told() if "crash loop" in error)
        assert in_a_loop.startswith(f"{first} (crash loop: 3 ends since ")
        alias[0] = own.search_alias
        eventually(lambda: is_indexed(own, "supervised"), what="the index")
        assert codes == []
    assert codes == [0]


def test_one_process_that_is_killed_has_all_of_them_started_again(
    own: Settings, log: Log, database: Database, tmp_path: Path
) -> None:
    supervisor = Supervisor(
        "catalog_search", 2, lambda: but(own, home=tmp_path), AT_ONCE, tmp_path / "flow.log"
    )
    with supervised(supervisor) as codes:
        produce(log, own, "before-the-kill")
        eventually(lambda: is_indexed(own, "before-the-kill"), what="the index")
        assert supervisor.running is not None
        first_life = supervisor.running
        first_life.processes[1].kill()
        produce(log, own, "after-the-kill")
        eventually(lambda: is_indexed(own, "after-the-kill"), what="the index")
        assert all(process.poll() is not None for process in first_life.processes)
        assert len(supervisor.running.processes) == 2
    assert codes == [0]
    rows = database.ask("SELECT error FROM sync.status WHERE state = 'failed'")
    assert "Killed: process 2 of 2 ended by signal SIGKILL, without a word" in {error for (error,) in rows}


def test_a_supervisor_that_is_killed_takes_its_flow_with_it(
    own: Settings, log: Log, database: Database, tmp_path: Path
) -> None:
    script = "from syncline.supervisor import Supervisor; Supervisor('outbox_relay').run()"
    said = tmp_path / "said.log"
    with said.open("wb") as output:
        command = subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | but(own, home=tmp_path).as_environment(),
            stdout=output,
            stderr=output,
        )
    eventually(lambda: "the outbox is ours" in said.read_text(), what="the relay")
    [child] = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    command.kill()
    command.wait()
    eventually(lambda: not Path(f"/proc/{child}/cmdline").exists() or is_zombie(child), what="the flow's end")


def is_zombie(process_id: str) -> bool:
    return Path(f"/proc/{process_id}/cmdline").read_bytes() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_passes_a_signal_on_and_starts_nothing_again(
    own: Settings, log: Log, database: Database, tmp_path: Path, number: signal.Signals
) -> None:
    said = tmp_path / "said.log"
    with said.open("wb") as output:
        command = subprocess.Popen(
            [sys.executable, "-c", "from syncline.console.main import main; main()", "run", "catalog_search"],
            env=os.environ | but(own, home=tmp_path).as_environment(),
            stdout=output,
            stderr=output,
        )
    try:
        produce(log, own, f"command-{number.name}")
        eventually(lambda: is_indexed(own, f"command-{number.name}"), what="the index")
        command.send_signal(number)
        assert command.wait(20) == 0, said.read_text()
    finally:
        command.kill()
        command.wait()
    assert said.read_text().count('"event": "starting"') == 1
    assert "again" not in said.read_text()
