"""What can be seen of a flow's process from outside: its probes, its snapshots, what it said at its end."""

import pickle
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.waiting import eventually

TO_END_S = 5
"""A process that is told to end has so long, whatever it waits for."""


def snapshots(folder: Path) -> dict[tuple[str, str], Any]:
    """The newest snapshot of each step and key."""
    found: dict[tuple[str, str], tuple[int, Any]] = {}
    for file in folder.glob("part-*.sqlite3"):
        connection = sqlite3.connect(file)
        rows = connection.execute("SELECT step_id, state_key, snap_epoch, ser_change FROM snaps").fetchall()
        connection.close()
        for step, key, epoch, raw in rows:
            if raw is not None and epoch >= found.get((step, key), (-1,))[0]:
                found[step, key] = (epoch, pickle.loads(raw))  # noqa: S301 - our own file
    return {place: state for place, (_, state) in found.items()}


def read_so_far(flow: str, folder: Path) -> dict[tuple[str, int], int]:
    """The place behind the last message that the newest snapshot holds as read, by partition."""
    return {
        (topic, int(key)): offset
        for (step, key), state in snapshots(folder).items()
        if step == f"{flow}.changes"
        for topic, offset in state["offsets"].items()
    }


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def assert_healthy(port: int) -> None:
    """Probes and Prometheus are told so."""
    assert get(port, "/ready")[0] == 200
    assert get(port, "/live")[0] == 200
    assert get(port, "/other")[0] == 404

    def are_counted() -> bool:
        _, text = get(port, "/metrics")
        return (
            'syncline_changes_total{decision="' in text and "syncline_step_duration_seconds_bucket{" in text
        )

    eventually(are_counted, what="the metrics")


def assert_one_line(text: str, told: str) -> None:
    lines = text.splitlines()
    errors = [line for line in lines if '"level": "error"' in line or "[error" in line]
    assert len(errors) == 1, text
    assert told in errors[0].replace("\\u0027", "'")
    assert "Traceback" not in text
    # A panic of Bytewax's, on the error's way through it, is three lines and no stack.
    assert "stack backtrace" not in text
    assert len(lines) <= 12, text
