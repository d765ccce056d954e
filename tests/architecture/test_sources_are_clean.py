"""What no file of the project may hold: stand-ins for servers, hosts of registries, paths of one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAND_INS = re.compile(
    r"unittest\.mock|from unittest import mock|\bMagicMock\b|\bmocker\b|pytest_mock|requests_mock|respx"
    r"|fakeredis|mockredis|testing\.postgresql|pytest_httpx|pytest_httpserver|pytest_localserver"
)
REGISTRIES = re.compile(
    r"https?://[\w.-]*(?:artifactory|nexus|jfrog|pypi|pythonhosted|conda|devpi|registry|mirror)[\w.-]*",
    re.IGNORECASE,
)
ALLOWED_REGISTRIES = frozenset({"https://pypi.org"})
"""The public index, which documentation may name."""
INDEX_OPTIONS = re.compile(
    r"^\s*(?:--index-url|--extra-index-url|--find-links|-i\s|index-url\s*=)", re.MULTILINE
)
MACHINE_PATHS = re.compile(
    r"/(?:home|Users)/[a-z][\w.-]*/|/work/(?:main|shared)\b|/tmp/(?:v|h|wt)\d*/|C:\\Users"
)
HERE = Path(__file__).relative_to(ROOT)


def tracked() -> list[Path]:
    """The project's text files: as git knows them, else all that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    paths = [Path(name) for name in listed if name] or [
        path.relative_to(ROOT)
        for path in ROOT.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    return [path for path in paths if path != HERE and (ROOT / path).is_file()]


def text(path: Path) -> str:
    try:
        return (ROOT / path).read_text()
    except UnicodeDecodeError:
        return ""


FILES = {path: text(path) for path in tracked()}


def test_no_test_puts_a_stand_in_before_a_server() -> None:
    found = {
        str(path): match.group()
        for path, content in FILES.items()
        if path.parts[0] == "tests" and path.suffix == ".py" and (match := STAND_INS.search(content))
    }

    assert found == {}


@pytest.mark.parametrize("pattern", [REGISTRIES, INDEX_OPTIONS], ids=["address", "option"])
def test_no_file_names_a_package_registry(pattern: re.Pattern[str]) -> None:
    found = {
        (str(path), match)
        for path, content in FILES.items()
        for match in pattern.findall(content)
        if not match.startswith(tuple(ALLOWED_REGISTRIES))
    }

    assert found == set()


def test_every_client_of_kafka_is_told_where_to_log() -> None:
    """By itself librdkafka writes to standard error, when the broker has gone before it."""
    found = {
        f"{path}:{call.lineno}"
        for path, content in FILES.items()
        if path.suffix == ".py" and path.parts[0] != "bench"
        for call in ast.walk(ast.parse(content))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"AdminClient", "Consumer", "Producer"}
        and not any(keyword.arg == "logger" for keyword in call.keywords)
        and "'log_level': 0" not in ast.unparse(call)
    }

    assert found == set()


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {
        (str(path), match) for path, content in FILES.items() for match in MACHINE_PATHS.findall(content)
    }

    assert found == set()
