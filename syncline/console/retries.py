"""``syncline retries``: the changes that a store could not take for now, and what to do about them."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from syncline.console.entries import (
    LONGEST_REASON,
    AsJson,
    By,
    Entity,
    Flow,
    Limit,
    Why,
    console,
    moment,
    readable,
    readable_headers,
    show_list,
    show_whole,
)
from syncline.console.tables import shortened
from syncline.model.errors import NotPossible
from syncline.monitor.retries import ESCALATED, Content, Entry, RetryDesk
from syncline.settings import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)


EntryId = Annotated[int, typer.Argument(metavar="ID", help="As `syncline retries list` names it.")]


def _desk() -> RetryDesk:
    return RetryDesk(Settings.load().postgres_dsn.get_secret_value())


@app.command(name="list")
def list_entries(
    flow: Flow = None,
    entity: Entity = None,
    state: Annotated[
        str | None,
        typer.Option(help="waiting, sent, escalated; done, overtaken, quarantined, discarded; any."),
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Show what waits for a store to take it; what no retry got in is escalated, and waits for a person."""
    found = _desk().entries(flow, entity, state, limit + 1)
    show_list(found, limit, _lines, "syncline retries show ID", as_json=as_json)


@app.command()
def show(entry_id: EntryId, as_json: AsJson = False) -> None:
    """Show one entry whole: the reason, when it comes back, the message as it came, who saw to it."""
    entry, content = _desk().show(entry_id)
    show_whole(_whole(entry, content), _next(entry), as_json=as_json)


@app.command()
def retry(
    by: By,
    entry_id: Annotated[int | None, typer.Argument(metavar="ID", help="One entry.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are escalated.")] = False,
    flow: Flow = None,
    entity: Entity = None,
) -> None:
    """Send changes again at once, say after what held their documents has been ended."""
    if (entry_id is not None) is everything:
        raise NotPossible("give an ID, or --all, which may have --flow and --entity")
    if entry_id is not None:
        _desk().retry(entry_id, by)
        console.print(f"Entry {entry_id} is due now. Next: syncline retries show {entry_id}")
        return
    count = _desk().retry_all(by, flow, entity)
    console.print(f"{count:,} are due now. Next: syncline retries list")


@app.command()
def discard(entry_id: EntryId, by: By, why: Why) -> None:
    """Close an entry that nobody needs; its row stays."""
    _desk().discard(entry_id, by, why)
    console.print(f"Entry {entry_id} is discarded. Next: syncline retries list")


def _lines(entry: Entry) -> Text:
    times = "once" if entry.turned_back == 1 else f"{entry.turned_back:,} times"
    due = f", next at {moment(entry.next_attempt_at)}" if entry.state == "waiting" else ""
    return Text.assemble(
        (f"{entry.id:>7}  {entry.entity} version {entry.version[1]}", "bold"),
        f"  {entry.state}, {entry.flow}, turned back {times}, last {moment(entry.last_seen)}{due}\n",
        f"{'':>9}{shortened(entry.reason, LONGEST_REASON)}",
    )


def _whole(entry: Entry, content: Content) -> dict[str, Any]:
    return {
        **asdict(entry),
        "key": readable(content.key),
        "value": readable(content.value),
        "headers": readable_headers(content.headers),
    }


def _next(entry: Entry) -> str:
    if entry.state == ESCALATED:
        return (
            f"end what holds the document, then syncline retries retry {entry.id} --by NAME, "
            f"or discard {entry.id} --by NAME --why TEXT"
        )
    if entry.state in {"waiting", "sent"}:
        return f"syncline status, to see whether {entry.flow} and outbox_relay run"
    return "syncline retries list"
