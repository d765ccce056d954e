"""How entries of the quarantine and of the retry queue look on a terminal: a line for each thing known."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
from rich.text import Text


def lines_of(known: Mapping[str, Any]) -> Iterator[Text]:
    for name, value in known.items():
        if value is not None:
            yield Text.assemble((f"{name:<16}", "bold"), _text(value))


def readable(raw: bytes | None) -> str | None:
    """As text, else in hexadecimal."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"0x{raw.hex()}"


def readable_headers(headers: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """From pairs whose values are in hexadecimal."""
    return {name: None if value is None else readable(bytes.fromhex(value)) for name, value in headers}


def moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()
