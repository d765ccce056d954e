"""One measurement in a process of its own, which has done nothing else before.

A module that can be run so reads its parameters as one JSON object from standard input, and answers one
on standard output.
"""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import orjson

from syncline.model.errors import FatalError

TIMEOUT_SECONDS = 900
_LINES_OF_A_FAILURE = 12

Parameters = dict[str, Any]


def run(module: str, parameters: Parameters) -> dict[str, Any]:
    """Run ``python -m module``. Raises ``FatalError`` with its last words where it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=orjson.dumps(parameters),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FatalError(f"{module} did not end within {TIMEOUT_SECONDS} s") from error
    if done.returncode != 0:
        last_words = done.stderr.decode(errors="replace").splitlines()[-_LINES_OF_A_FAILURE:]
        raise FatalError("\n".join([f"{module} ended with exit code {done.returncode}", *last_words]))
    answer: dict[str, Any] = orjson.loads(done.stdout)
    return answer


def answer(measure: Callable[[Parameters], dict[str, Any]]) -> None:
    """Be such a module."""
    sys.stdout.buffer.write(orjson.dumps(measure(orjson.loads(sys.stdin.buffer.read()))))
