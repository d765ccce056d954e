"""Ports are free when chosen, distinct, and remembered."""

import socket
from pathlib import Path

from syncline.stack import ports


def test_the_chosen_ports_are_free_and_distinct() -> None:
    chosen = ports.choose(["port", "controller"])
    assert len(set(chosen.values())) == 2
    assert all(ports.is_free(port) for port in chosen.values())


def test_a_port_on_which_someone_listens_is_not_free() -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as taken:
        assert not ports.is_free(taken.getsockname()[1])


def test_ports_are_remembered(tmp_path: Path) -> None:
    ports.remember(tmp_path / "ports.json", {"port": 20001})
    assert ports.remembered(tmp_path / "ports.json") == {"port": 20001}


def test_an_unreadable_record_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    for content in ("", "[]", '{"port": "x"}', '{"port": null}'):
        file.write_text(content)
        assert ports.remembered(file) is None
