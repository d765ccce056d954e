"""``syncline quarantine``: the changes that could not go on, and what to do about them."""

from dataclasses import asdict
from typing import Annotated, Any

import orjson
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
from syncline.monitor.quarantine import (
    OPEN,
    REPLAYING,
    Content,
    Corrected,
    Entry,
    QuarantineDesk,
    Selection,
    answer_anew,
)
from syncline.settings import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)

_ANY = "any"

EntryId = Annotated[int, typer.Argument(metavar="ID", help="As `syncline quarantine list` names it.")]


def _desk() -> QuarantineDesk:
    return QuarantineDesk(Settings.load().postgres_dsn.get_secret_value())


@app.command(name="list")
def list_entries(
    flow: Flow = None,
    entity: Entity = None,
    reason: Annotated[str | None, typer.Option(help="With this text in the reason.")] = None,
    step: Annotated[
        str | None, typer.Option(help="Given up by this step: decode, transform, apply, isolate.")
    ] = None,
    error: Annotated[
        str | None, typer.Option(help="Undecodable, Untransformable, Invalid, Refused, Poison.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="From this topic.")] = None,
    state: Annotated[
        str, typer.Option(help="open, replaying, replayed, overtaken, discarded, or any.")
    ] = OPEN,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Show what waits: a row for each entity, with the newest change of it that failed."""
    selection = Selection(flow, step, error, entity, topic, reason)
    found = _desk().entries(selection, None if state == _ANY else state, limit + 1)
    show_list(found, limit, _lines, "syncline quarantine show ID", as_json=as_json)


@app.command()
def show(entry_id: EntryId, as_json: AsJson = False) -> None:
    """Show one entry whole: the reason, the message as it came, what was corrected, who saw to it."""
    entry, content = _desk().show(entry_id)
    show_whole(_whole(entry, content), _next(entry), as_json=as_json)


@app.command()
def correct(
    entry_id: EntryId,
    changes: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="What is right instead: text where the field is text, else JSON. Again for more.",
        ),
    ],
    by: By,
    why: Why,
) -> None:
    """Change fields of a quarantined change and replay it; the original stays beside it."""
    corrected = _desk().correct(entry_id, dict(map(_field, changes)), by, why)
    for change in corrected:
        console.print(_told(change))
    console.print(f"Entry {entry_id} is on its way. Next: syncline quarantine show {entry_id}")


@app.command()
def replay(
    by: By,
    entry_id: Annotated[int | None, typer.Argument(metavar="ID", help="One entry.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is open.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="All that is open and has this flow, step, error, entity, topic or reason. Again for more.",
        ),
    ] = None,
) -> None:
    """Send quarantined changes on their way again, as they are, say after a rule was set right."""
    if (entry_id is not None) + everything + bool(where) != 1:
        raise NotPossible("give an ID, or --all, or --where NAME=VALUE")
    if entry_id is not None:
        _desk().replay(entry_id, by)
        console.print(f"Entry {entry_id} is on its way. Next: syncline quarantine show {entry_id}")
        return
    replayed = _desk().replay_all(Selection.parse(where or []), by)
    for problem in replayed.refused.values():
        console.print(problem)
    console.print(f"{len(replayed.ids):,} on their way, {len(replayed.refused):,} cannot be replayed.")
    console.print("Next: syncline quarantine list, for what failed again")


@app.command()
def discard(entry_id: EntryId, by: By, why: Why) -> None:
    """Close an entry that nobody needs; its row stays."""
    _desk().discard(entry_id, by, why)
    console.print(f"Entry {entry_id} is discarded. Next: syncline quarantine list")


def _field(change: str) -> tuple[str, str]:
    field, equals, text = change.partition("=")
    if not field or not equals:
        raise NotPossible(f"{change!r} sets nothing; write FIELD=VALUE")
    return field, text


def _lines(entry: Entry) -> Text:
    """An entry in two lines: a table's columns would cut off what tells it apart."""
    times = "once" if entry.count == 1 else f"{entry.count:,} times"
    return Text.assemble(
        (f"{entry.id:>7}  {entry.entity or 'not decoded'}", "bold"),
        f"  {entry.state}, {entry.flow} {entry.step}, {times}, last {moment(entry.last_seen)}",
        f", the answer to {entry.answers}\n" if entry.answers is not None else "\n",
        f"{'':>9}{shortened(entry.reason, LONGEST_REASON)}",
    )


def _whole(entry: Entry, content: Content) -> dict[str, Any]:
    return {
        **asdict(entry),
        "key": readable(content.key),
        "value": readable(content.value),
        "corrected_value": readable(content.corrected_value),
        "headers": readable_headers(content.headers),
    }


def _told(change: Corrected) -> str:
    return f"{change.field}: {orjson.dumps(change.before).decode()} -> {orjson.dumps(change.after).decode()}"


def _next(entry: Entry) -> str:
    if entry.state == OPEN and entry.answers is not None:
        return f"syncline conflicts show {entry.answers}, and {answer_anew(entry.answers)}"
    if entry.state == OPEN and entry.entity is not None:
        return (
            f"syncline quarantine correct {entry.id} --set FIELD=VALUE --by NAME --why TEXT, "
            f"or replay {entry.id} --by NAME, or discard {entry.id} --by NAME --why TEXT"
        )
    if entry.state == OPEN:
        return f"syncline quarantine discard {entry.id} --by NAME --why TEXT, once its owner wrote it again"
    if entry.state == REPLAYING:
        return f"syncline status, to see whether {entry.flow} and outbox_relay run"
    return "syncline quarantine list"
