"""On which line of a TOML file a key stands, which the parser does not tell."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping

Path = tuple[str | int, ...]


def lines_by_path(text: str) -> dict[Path, int]:
    """The line, from 1 on, of each table, array element and key of a file that is TOML.

    What stands inside a value has no line of its own: look for the path without its end.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    elements: Counter[Path] = Counter()
    for number, statement in _statements(text):
        if statement.lstrip().startswith("[["):
            array = _path(tomllib.loads(statement))
            table = (*array, elements[array])
            elements[array] += 1
            lines.setdefault(array, number)
        elif statement.lstrip().startswith("["):
            table = _path(tomllib.loads(statement))
        else:
            key = _path(tomllib.loads(statement), depth=_depth(statement))
            for end in range(1, len(key) + 1):
                lines.setdefault((*table, *key[:end]), number)
            continue
        lines[table] = number
    return lines


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest thing around it; 1 where nothing of it is there."""
    for end in range(len(path), 0, -1):
        if (line := lines.get(path[:end])) is not None:
            return line
    return 1


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each header or assignment with the number of its first line: as many lines as the parser needs."""
    begun, statement = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not statement:
            begun = number
            if not line.strip() or line.lstrip().startswith("#"):
                continue
        statement += line + "\n"
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        yield begun, statement
        statement = ""


def _path(parsed: object, depth: int | None = None) -> Path:
    """The one path through what a single statement makes."""
    path: Path = ()
    while depth is None or len(path) < depth:
        if isinstance(parsed, list):
            parsed = parsed[0]
            continue
        if not isinstance(parsed, dict) or not parsed:
            break
        [(key, parsed)] = parsed.items()
        path = (*path, key)
    return path


def _depth(statement: str) -> int:
    """How many names an assignment's key has: each value in its place parses to the same names."""
    parsed: object = None
    for end in (at for at, character in enumerate(statement) if character == "="):
        try:
            parsed = tomllib.loads(statement[:end] + "= 0")
        except tomllib.TOMLDecodeError:
            continue
        break
    depth = 0
    while isinstance(parsed, dict):
        [parsed] = parsed.values()
        depth += 1
    return depth
