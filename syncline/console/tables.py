"""How tables, values and times look on a terminal, be it narrow or a file."""

from datetime import datetime

import orjson
from rich.console import Console
from rich.table import Column, Table

WIDEST = 120
LONGEST_VALUE = 60


def narrow_console() -> Console:
    """As wide as the terminal, up to what can be read with ease."""
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST) if console.is_terminal else WIDEST
    return console


def table_of(*columns: str) -> Table:
    """A table whose cells fold where they are too long."""
    folded = (Column(column, overflow="fold") for column in columns)
    return Table(*folded, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def list_of_facts() -> Table:
    """A name and what it is, row by row, without a header."""
    table = table_of("", "")
    table.show_header = False
    table.columns[0].no_wrap = True
    return table


def shown_value(value: object) -> str:
    """As JSON, shortened."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return shortened(text)


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """At most so many characters of it, and a sign that there are more."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def shown_time(time: datetime) -> str:
    """To the millisecond; the time is in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03}Z"
