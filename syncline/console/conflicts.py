"""``syncline conflicts``: what could not both stand, and what a person says of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import orjson
import typer
from rich.table import Table
from rich.text import Text

from syncline.console.tables import list_of_facts, narrow_console, shown_time, shown_value, table_of
from syncline.model.change import EntityKey
from syncline.model.decision import ConflictKind
from syncline.model.errors import NotPossible, TransientError
from syncline.monitor.audited_conflicts import (
    AuditedCandidate,
    AuditedConflict,
    AuditedReview,
    AuditedSide,
    FailedAnswer,
    Resolution,
    Search,
    read_conflicts,
    read_reviews,
)
from syncline.monitor.conflict_choice import SIDES, Choice
from syncline.monitor.conflict_resolution import find
from syncline.monitor.conflict_resolution import resolve as resolve_one
from syncline.monitor.stored_content import stored_content
from syncline.postgres import connect
from syncline.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True)

SHOWN = 100
_SIDES = {side: word for word, side in SIDES.items()}
"""How the audit calls the two sides of a conflict, and how a person does."""

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Name = Annotated[str, typer.Argument(help="As the list names it: r12 is a review, c34 a conflict.")]


@app.command("list")
def list_(
    kind: Annotated[
        ConflictKind | None, typer.Option(help="Only conflicts of this kind, and no reviews.")
    ] = None,
    entity: Annotated[str | None, typer.Option(help="Only of this one, such as price:EUR:SKU-1.")] = None,
    flow: Annotated[str | None, typer.Option(help="Only of this flow.")] = None,
    is_open: Annotated[
        bool, typer.Option("--open", help="Only what a person is asked, or may still decide otherwise.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each.")] = SHOWN,
    as_json: AsJson = False,
) -> None:
    """List reviews, which need a person, and conflicts, which a rule has decided; the newest first."""
    entities = None if entity is None else [_entity_key(entity)]
    search = Search(flow=flow, entities=entities, open=is_open, limit=limit)
    by_kind = Search(flow=flow, kind=kind, entities=entities, open=is_open, limit=limit)
    with connect(Settings.load().postgres_dsn.get_secret_value(), "syncline-conflicts") as connection:
        reviews = [] if kind is not None else read_reviews(connection, search)
        conflicts = read_conflicts(connection, by_kind)
    if as_json:
        plain = {"reviews": reviews, "conflicts": conflicts}
        typer.echo(orjson.dumps(plain, option=orjson.OPT_INDENT_2).decode())
        return
    console = narrow_console()
    if not reviews and not conflicts:
        console.print("none")
    if reviews:
        console.print(_reviews_table(reviews))
    if conflicts:
        console.print(_conflicts_table(conflicts))
    if len(reviews) == limit or len(conflicts) == limit:
        console.print(f"There may be more than {limit:,}; see them with --limit.")


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Show all that is known of one: both sides, the rule, and who decided what, when and why."""
    settings = Settings.load()
    with connect(settings.postgres_dsn.get_secret_value(), "syncline-conflicts") as connection:
        found = find(connection, name)
    why_not = ""
    if isinstance(found, AuditedConflict) and not found.field and found.known.version:
        found, why_not = _with_stored_content(found, settings)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    table = list_of_facts()
    rows = _review_rows(found) if isinstance(found, AuditedReview) else _conflict_rows(found, why_not)
    for label, text in [*rows, *_resolution_rows(found.resolution)]:
        table.add_row(label, Text(text))
    narrow_console().print(table)


@app.command()
def resolve(
    name: Name,
    by: Annotated[str, typer.Option(help="Who decides.")],
    why: Annotated[str, typer.Option(help="And why: it goes on record.")],
    take: Annotated[
        str | None, typer.Option(metavar="incoming|stored|WRITER", help="The side that is right.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="What is right instead: text, else JSON."),
    ] = None,
) -> None:
    """Decide a review, or decide a conflict over a whole entity otherwise than its rule did."""
    choice = Choice(take, [_setting(text) for text in settings or ()], by, why)
    resolved = resolve_one(Settings.load(), name, choice)
    also = f", and with it {', '.join(resolved.also_resolved)}" if resolved.also_resolved else ""
    if resolved.sent_version is None:
        typer.echo(f"{name} is closed: what was chosen stands already")
    else:
        typer.echo(
            f"{name} is resolved{also}; the answer is on its way to {resolved.flow} as version "
            f"{resolved.sent_version}. Next: syncline conflicts show {name}"
        )


def _entity_key(text: str) -> EntityKey:
    entity_type, _, entity_id = text.partition(":")
    if not entity_id:
        raise typer.BadParameter(f"{text!r} is no entity, such as price:EUR:SKU-1", param_hint="--entity")
    return EntityKey(entity_type, entity_id)


def _setting(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise typer.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="--set")
    return field, value


def _reviews_table(reviews: Sequence[AuditedReview]) -> Table:
    table = table_of("review", "state", "entity", "field", "values", "stands", "since")
    for review in reviews:
        values = ", ".join(
            f"{writer} {shown_value(candidate.value)}"
            for writer, candidate in sorted(review.candidates.items())
        )
        table.add_row(
            review.name,
            Text(review.state, "yellow" if review.state == "open" else ""),
            Text(review.entity),
            review.field,
            Text(values),
            review.standing,
            shown_time(review.opened_at),
        )
    return table


def _conflicts_table(conflicts: Sequence[AuditedConflict]) -> Table:
    table = table_of(
        "conflict", "kind", "entity", "field", "stored", "incoming", "stands", "by the rule", "at"
    )
    for conflict in conflicts:
        table.add_row(
            conflict.name,
            conflict.kind,
            Text(conflict.entity),
            conflict.field or "all",
            _side(conflict.known),
            _side(conflict.arrived),
            _stands(conflict),
            conflict.rule,
            shown_time(conflict.decided_at),
        )
    return table


def _stands(conflict: AuditedConflict) -> str:
    if conflict.resolution is None or not conflict.is_resolved:
        return _SIDES[conflict.winner]
    return f"resolved by {conflict.resolution.by}"


def _side(side: AuditedSide) -> str:
    return (
        f"{side.writer} v{side.version[-1 if len(side.version) == 1 else 1]}" if side.version else side.writer
    )


def _review_rows(review: AuditedReview) -> list[tuple[str, str]]:
    return [
        ("review", f"{review.name}, {review.state}, of {review.flow}"),
        ("about", f"{review.field} of {review.entity}"),
        *((writer, _candidate(candidate)) for writer, candidate in sorted(review.candidates.items())),
        ("stands", review.standing),
        ("asked", f"{shown_time(review.opened_at)}, last told {shown_time(review.told_at)}"),
    ]


def _candidate(candidate: AuditedCandidate) -> str:
    made = shown_time(candidate.at)
    return f"{shown_value(candidate.value)}, version {candidate.version}, made {made}"


def _with_stored_content(conflict: AuditedConflict, settings: Settings) -> tuple[AuditedConflict, str]:
    """Or why it cannot be had."""
    try:
        value = stored_content(conflict, settings)
    except (NotPossible, TransientError) as problem:
        return conflict, str(problem)
    return replace(conflict, known=replace(conflict.known, value=value)), ""


def _conflict_rows(conflict: AuditedConflict, why_not: str) -> list[tuple[str, str]]:
    """``why_not`` tells why what stood is not known."""
    incoming = f"{_whole_side(conflict.arrived)}, event {conflict.arrived_event_id}"
    return [
        ("conflict", f"{conflict.name}, of {conflict.flow}"),
        ("kind", conflict.kind),
        ("about", f"{conflict.field or 'all'} of {conflict.entity}"),
        ("stored", f"{_side(conflict.known)}: {why_not}" if why_not else _whole_side(conflict.known)),
        ("incoming", incoming),
        ("decided", f"{_SIDES[conflict.winner]}, by {conflict.rule}, {shown_time(conflict.decided_at)}"),
    ]


def _whole_side(side: AuditedSide) -> str:
    value = orjson.dumps(side.value).decode()
    position = "" if side.position is None else f", at {side.position}"
    return f"{_side(side)}: {value}{position}"


def _resolution_rows(resolution: Resolution | None) -> list[tuple[str, str]]:
    if resolution is None:
        return []
    return [
        ("resolved by", f"{resolution.by}, {shown_time(resolution.at)}"),
        ("why", resolution.why),
        ("how", orjson.dumps(resolution.how).decode()),
        *_failure_rows(resolution.failed),
    ]


def _failure_rows(failed: FailedAnswer | None) -> list[tuple[str, str]]:
    if failed is None:
        return []
    return [("failed", f"{failed.reason} (entry {failed.quarantine_id} of the quarantine); answer anew")]
