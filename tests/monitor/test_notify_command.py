"""``syncline notify`` as a process: what a person, cron or a supervisor sees of it."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from syncline.flow_processes import free_ports
from syncline.settings import Settings
from tests.monitor.receivers import Webhook, webhook
from tests.monitor.waiting_room import WaitingRoom
from tests.process.running import Flow
from tests.waiting import eventually

COMMAND = [sys.executable, "-c", "from syncline.console.main import main; main()", "notify"]
SECRET = "t0psecret-path"

Notify = Callable[..., Flow]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook(SECRET) as hook:
        yield hook


@pytest.fixture
def notify(dsn: str, own: Settings, hook: Webhook, tmp_path: Path) -> Iterator[Notify]:
    """Starts the process, which tells the owner of prices by the webhook; its log is of level DEBUG."""

    def start(*arguments: str, **environment: object) -> Flow:
        log = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
        variables = {
            "postgres_dsn": dsn,
            "elasticsearch_url": own.elasticsearch_url.get_secret_value(),
            "search_alias": own.search_alias,
            "notify_targets": orjson.dumps({"pricing": [hook.address]}).decode(),
            "log_level": "DEBUG",
            "home": tmp_path / "home",
            **environment,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*COMMAND, *arguments],
                env=os.environ
                | {f"SYNCLINE_{name.upper()}": str(value) for name, value in variables.items()},
                stdout=output,
                stderr=output,
            )
        started.callback(_kill, process)
        return Flow(process, log)

    with ExitStack() as started:
        yield start


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_it_tells_until_it_is_ended_and_a_later_one_goes_on(
    notify: Notify, room: WaitingRoom, hook: Webhook
) -> None:
    room.quarantine()
    first = notify(notify_interval_s=1)
    first.await_event("notified", target="pricing/1")
    room.quarantine(2)
    eventually(lambda: len(hook.messages) == 2, what="the second message")
    assert first.end(signal.SIGTERM) < 5
    assert first.process.returncode == 0
    assert first.events[-1]["event"] == "stopped"

    room.quarantine(3)
    second = notify(notify_interval_s=1)
    second.await_event("notified", target="pricing/1")
    assert second.end(signal.SIGTERM) < 5
    assert [message["title"] for message in hook.messages] == [
        "Syncline: 1 change in quarantine",
        "Syncline: 2 changes in quarantine",
        "Syncline: 3 changes in quarantine",
    ]
    assert SECRET not in first.text + second.text


def test_once_is_for_cron(notify: Notify, room: WaitingRoom, hook: Webhook) -> None:
    room.quarantine()
    assert notify("--once").outcome() == 0
    assert notify("--once").outcome() == 0
    assert len(hook.messages) == 1


def test_once_fails_with_its_target_and_keeps_its_secret(
    notify: Notify, room: WaitingRoom, hook: Webhook
) -> None:
    hook.up = False
    room.quarantine()
    failed = notify("--once")
    assert failed.outcome() == 1
    failed_event = next(event for event in failed.events if event["event"] == "not notified")
    assert (failed_event["target"], failed_event["failures"]) == ("pricing/1", 1)
    assert "503" in failed_event["error"]
    assert SECRET not in failed.text


def test_it_names_those_whom_it_cannot_reach(notify: Notify, room: WaitingRoom) -> None:
    process = notify("--once")
    assert process.outcome() == 0
    [event] = [event for event in process.events if "recipients" in event]
    assert "data-quality" in event["recipients"]
    assert "pricing" not in event["recipients"]


def test_a_database_that_is_away_is_asked_again(notify: Notify) -> None:
    [port] = free_ports(1)
    away = f"postgresql://postgres@127.0.0.1:{port}/shop"
    process = notify(postgres_dsn=away, notify_interval_s=1)
    eventually(lambda: process.text.count("looking again at the next interval") >= 2, what="a second look")
    assert process.end(signal.SIGTERM) < 5
    assert process.process.returncode == 0
    assert notify("--once", postgres_dsn=away).outcome() == 1


def test_a_search_copy_that_is_away_is_asked_again(notify: Notify, room: WaitingRoom, hook: Webhook) -> None:
    [port] = free_ports(1)
    away = f"http://127.0.0.1:{port}"
    room.quarantine()
    process = notify(elasticsearch_url=away, notify_interval_s=1)
    eventually(lambda: process.text.count("looking again at the next interval") >= 2, what="a second look")
    assert process.end(signal.SIGTERM) < 5
    assert process.process.returncode == 0
    assert len(hook.messages) == 1
    assert notify("--once", elasticsearch_url=away).outcome() == 1


def test_a_search_copy_that_hangs_does_not_hold_up_the_end(notify: Notify, room: WaitingRoom) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        hanging.settimeout(30)
        process = notify(elasticsearch_url=f"http://127.0.0.1:{hanging.getsockname()[1]}")
        asked, _ = hanging.accept()
        with asked:
            assert process.end(signal.SIGTERM) < 5
    assert process.process.returncode == 0


def test_it_tells_how_it_is_doing(notify: Notify, room: WaitingRoom) -> None:
    [port] = free_ports(1)
    room.quarantine()
    process = notify(health_port=port)
    process.await_event("notified")

    def answer(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return str(response.read(), "utf-8")

    def is_ready() -> bool:
        try:
            return '"ok":true' in answer("/ready")
        except urllib.error.HTTPError:
            return False

    eventually(is_ready, what="readiness")
    sample = 'syncline_notifications_total{outcome="sent",recipient="pricing"} 1.0'
    assert sample in answer("/metrics")


def test_targets_that_are_no_json_are_told_without_showing_them(notify: Notify) -> None:
    process = notify(notify_targets=f"json://127.0.0.1/{SECRET}")
    assert process.outcome() == 1
    assert "notify_targets" in process.text
    assert SECRET not in process.text
