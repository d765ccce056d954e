"""``syncline stack``: the real servers that the demo and the tests run on, embedded in this folder."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from syncline.settings import Settings
from syncline.stack.progress import Terminal
from syncline.stack.stack import Stack

app = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console()


def _stack() -> Stack:
    return Stack(Settings.load().home)


@app.command()
def up() -> None:
    """Start PostgreSQL, Redis, Kafka and Elasticsearch, and wait until they answer."""
    stack = _stack()
    stack.up(Terminal())
    _show(stack)


@app.command()
def down() -> None:
    """Stop the servers. Their data stays."""
    _stack().down()
    console.print(
        "Stopped; the data stays. Start again: ./run stack up. Delete the data: ./run stack reset",
        soft_wrap=True,
    )


@app.command()
def status() -> None:
    """Show what runs, where, and what to read when it does not."""
    _show(_stack())


@app.command()
def reset(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Stop the servers and delete their data."""
    stack = _stack()
    if not yes:
        typer.confirm(f"Delete all data of the embedded servers in {stack.home / 'stack'}?", abort=True)
    stack.reset()
    console.print("Deleted. Start afresh: ./run stack up")


def _show(stack: Stack) -> None:
    table = Table("server", "state", "address", "pid", "memory", "log", box=None, pad_edge=False)
    servers = stack.status()
    for server in servers:
        memory = f"{server.memory_bytes / 2**20:.0f} MiB" if server.pid else ""
        pid = str(server.pid or "")
        table.add_row(server.name, server.state, server.address, pid, memory, server.log.name)
    console.print(table)
    console.print(f"Logs: {stack.home}/stack/SERVER/", soft_wrap=True)
    if all(server.state == "running" for server in servers):
        console.print("Look at the flows: ./run status. Stop the servers: ./run stack down", soft_wrap=True)
    else:
        console.print("Start what is stopped: ./run stack up", soft_wrap=True)
