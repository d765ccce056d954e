"""What is wrong with a policy file, said so that whoever wrote it can mend it."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import NamedTuple

from pydantic_core import ErrorDetails


class Fault(NamedTuple):
    file: str
    line: int
    key: str
    """The names down to what is wrong; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {f'{self.key}: ' if self.key else ''}{self.message}"


def unknown(name: str, what: str, known: Collection[str]) -> str:
    """That there is no such thing, and what there is."""
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"there is no {what} {name!r}; {hint}there are {', '.join(known) or 'none'}"


def of_the_form(error: ErrorDetails, known: Collection[str]) -> str:
    """A fault of the form: ``known`` are the keys of the table that it is about."""
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return unknown(str(error["loc"][-1]), "key", known)
    if kind == "missing":
        return "this is missing"
    if kind in {"literal_error", "enum"}:
        return f"{given!r} must be one of {error['ctx']['expected'].replace(' or ', ', ')}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    return f"{_short(given)}: {error['msg']}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
