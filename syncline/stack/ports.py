"""Loopback ports: chosen once, remembered, so that a server that restarts keeps its address."""

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Below the range from which systems take ports for outgoing connections (32768 and up on Linux), so that
# no passing connection can sit on a remembered port.
CANDIDATES = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now; connections still closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(names: Sequence[str]) -> dict[str, int]:
    """A free port for each name."""
    shuffled = random.SystemRandom().sample(CANDIDATES, len(CANDIDATES))
    free = (port for port in shuffled if is_free(port))
    return dict(zip(names, free, strict=False))


def remembered(file: Path) -> dict[str, int] | None:
    """The ports of an earlier start, unless there was none or its record is unreadable."""
    try:
        return {name: int(port) for name, port in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def remember(file: Path, ports: dict[str, int]) -> None:
    file.write_text(json.dumps(ports))
