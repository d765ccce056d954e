"""``syncline shop``: the producing services at work, with made-up data or your own products."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from syncline.services.customer_shop import CustomerShop
from syncline.services.customer_workload import ConcurrentEdits
from syncline.services.loading import Problem, load
from syncline.services.pace import Progress
from syncline.services.shop import Shop
from syncline.settings import Settings
from syncline.stopping import Stop, stop_on_signals

app = typer.Typer(help=__doc__, invoke_without_command=True)
console = Console()

_Rate = Annotated[float, typer.Option(help="Changes a second.")]
_Seconds = Annotated[float | None, typer.Option(help="How long. Without it or --changes: until Ctrl-C.")]
_Changes = Annotated[int | None, typer.Option(help="How many changes.")]
_Seed = Annotated[int, typer.Option(help="The same seed on the same data writes the same rows.")]


@app.callback()
def run(
    context: typer.Context,
    rate: _Rate = 100,
    seconds: _Seconds = None,
    changes: _Changes = None,
    seed: _Seed = 0,
) -> None:
    """Commit realistic changes to the catalog, pricing and warehouse databases."""
    if context.invoked_subcommand:
        return
    _run(Shop(Settings.load().source_dsns, seed), rate, seconds, changes)


@app.command(name="customers")
def run_customers(
    rate: _Rate = 100, seconds: _Seconds = None, changes: _Changes = None, seed: _Seed = 0
) -> None:
    """Commit realistic changes of customers by three services, some of them concurrent edits of one field."""
    concurrent = 0

    def count(_edits: ConcurrentEdits) -> None:
        nonlocal concurrent
        concurrent += 1

    _run(CustomerShop(Settings.load().source_dsns["customers"], seed, count), rate, seconds, changes)
    console.print(f"{concurrent:,} times two services edited one field without having seen each other.")


def _run(shop: Shop | CustomerShop, rate: float, seconds: float | None, changes: int | None) -> None:
    stop = Stop()
    stop_on_signals(stop)
    with console.status("Committing changes ...") as status:

        def tell(progress: Progress) -> None:
            status.update(f"{progress.changes:,} changes committed in {progress.seconds:.0f} s")

        summary = shop.run(rate, seconds, changes, tell, stop)
    _show(summary.changes_by_kind)
    console.print(
        f"{summary.changes:,} changes in {summary.transactions:,} commits and {summary.seconds:.1f} s: "
        f"{summary.rate:,.0f} changes/s of the {rate:,.0f} asked for."
    )


@app.command(name="load")
def load_file(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="One JSON object a line.")
    ],
) -> None:
    """Load your own products: their columns, and `prices` and `stock` if you like.

    {"sku": "A-1", "name": "Jug", "prices": {"EUR": {"list_amount": "9"}}, "stock": {"W1": {"on_hand": 5}}}
    """

    def tell(problem: Problem) -> None:
        typer.echo(str(problem), err=True)

    loaded = load(file, Settings.load().source_dsns, tell)
    _show(loaded.changes_by_kind)
    console.print(f"{_count(loaded.products, 'product')} loaded.")
    if loaded.bad_lines:
        typer.echo(
            f"{_count(loaded.bad_lines, 'line')} not loaded: correct and load the file again.", err=True
        )
        raise typer.Exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _show(changes_by_kind: Mapping[tuple[str, str], int]) -> None:
    table = Table("entity", "op", Column("changes", justify="right"), box=SIMPLE)
    for (entity, op), count in sorted(changes_by_kind.items()):
        table.add_row(entity, op, f"{count:,}")
    console.print(table)
