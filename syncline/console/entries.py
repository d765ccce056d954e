"""How entries of the quarantine and of the retry queue are shown, to a person or to a program."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.text import Text

LONGEST_REASON = 100

By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who you are; it is recorded.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="It is recorded.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Flow = Annotated[str | None, typer.Option(help="Of this flow.")]
Entity = Annotated[str | None, typer.Option(help="A type (price) or an entity (price:EUR:SKU-1).")]
Limit = Annotated[int, typer.Option(min=1, help="The first so many.")]

console = Console(highlight=False, soft_wrap=True)

E = TypeVar("E")


def show_list(
    found: Sequence[E], limit: int, lines: Callable[[E], Text], next_command: str, *, as_json: bool
) -> None:
    """Show entries, of which one more than ``limit`` was asked for, to tell whether there are more."""
    entries = found[:limit]
    if as_json:
        typer.echo(orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode())
        return
    if not entries:
        console.print("Nothing is there. Next: syncline status")
        return
    for entry in entries:
        console.print(lines(entry))
    if len(found) > limit:
        console.print(f"... and more than these {limit:,}; --limit shows them")
    console.print(f"Next: {next_command}")


def show_whole(known: Mapping[str, Any], next_command: str, *, as_json: bool) -> None:
    """Show all that is known of one entry, a line for each thing."""
    if as_json:
        typer.echo(orjson.dumps(known, option=orjson.OPT_INDENT_2).decode())
        return
    for name, value in known.items():
        if value is not None:
            console.print(Text.assemble((f"{name:<16}", "bold"), _text(value)))
    console.print(f"Next: {next_command}")


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
