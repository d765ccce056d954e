"""The command line: ``syncline VERB``. Each verb lives in a module of its own beside this one."""

import sys

import typer

from syncline.console import config, conflicts, explain, policies, quarantine, retries, shop, stack
from syncline.console.bench import bench
from syncline.console.demo import demo
from syncline.console.notify import notify
from syncline.console.references import references
from syncline.console.run import run
from syncline.console.setup import setup
from syncline.console.status import status
from syncline.console.verify import verify
from syncline.model.errors import SynclineError

_HELP = "Keep every copy of the shop's data right, and say why it is so. Begin with: syncline demo, or setup."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP)
for verb in (demo, setup, run, status, verify, references, notify, bench):
    app.command()(verb)
app.add_typer(policies.app, name="policies")
app.add_typer(config.app, name="config")
app.add_typer(explain.app, name="explain")
app.add_typer(conflicts.app, name="conflicts")
app.add_typer(stack.app, name="stack")
app.add_typer(shop.app, name="shop")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(retries.app, name="retries")


def main() -> None:
    """Run the command line; an expected error is one line on standard error and exit code 1."""
    try:
        app()
    except SynclineError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
