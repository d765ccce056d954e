"""``syncline stack``: what a person reads."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from syncline.console.stack import app
from syncline.stack.stack import Stack


def test_status_shows_each_server_and_the_next_command(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_HOME", str(stack.home))
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0
    for server in stack.status():
        assert all(part in shown.stdout for part in (server.name, server.address, str(server.pid)))
        assert server.log.name in shown.stdout
    assert str(stack.home) in shown.stdout
    assert "./run stack down" in shown.stdout


def test_status_before_the_first_start_says_how_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCLINE_HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0
    assert shown.stdout.count("stopped") >= 4
    assert "./run stack up" in shown.stdout


def test_reset_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_HOME", str(tmp_path))
    kept = tmp_path / "stack" / "redis" / "data"
    kept.mkdir(parents=True)
    assert CliRunner().invoke(app, ["reset"], input="n\n").exit_code == 1
    assert kept.exists()
    assert CliRunner().invoke(app, ["reset", "--yes"]).exit_code == 0
    assert not kept.exists()
