"""``syncline config``: the settings as they are, and what is wrong with them."""

from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Column, Table

from syncline.monitor.effective_settings import effective_settings, settings_faults
from syncline.monitor.servers import ask_servers
from syncline.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True)


@app.command()
def show(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show every setting and where it comes from; secrets are masked."""
    found = effective_settings(Settings.load())
    if as_json:
        plain = [setting._asdict() for setting in found]
        typer.echo(orjson.dumps(plain, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("setting", Column("value", overflow="fold"), Column("from", overflow="fold"), box=None)
    for setting in found:
        table.add_row(*setting)
    Console(highlight=False, markup=False).print(table)


@app.command()
def check() -> None:
    """Name every setting that is unknown or wrong, then ask each server. Exit code 1 if anything is amiss."""
    faults = settings_faults()
    for fault in faults:
        typer.echo(f"{fault.place}: {fault.problem}")
    if faults:
        raise typer.Exit(1)
    answers = ask_servers(Settings.load())
    for server in answers:
        answer = "answers" if server.error is None else f"does not answer: {server.error}"
        typer.echo(f"{server.name} at {server.address} {answer}")
    if any(server.error is not None for server in answers):
        raise typer.Exit(1)
