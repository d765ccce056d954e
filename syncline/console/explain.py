"""``syncline explain``: why does the copy say this, and is it what the source says?"""

from collections.abc import Iterable
from typing import Annotated
from uuid import UUID

import orjson
import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from syncline.console.tables import list_of_facts, narrow_console, shown_time, shown_value, table_of
from syncline.monitor.audited_conflicts import AuditedConflict, AuditedReview
from syncline.monitor.customer_explanation import explain_customer
from syncline.monitor.explanation import (
    EntityExplanation,
    Explanation,
    FieldExplanation,
    Finding,
    Quarantined,
    Retrying,
    Unpublished,
)
from syncline.monitor.product_explanation import explain_product
from syncline.policies.field_merge import RESOLUTION
from syncline.settings import Settings

app = typer.Typer(help=__doc__, no_args_is_help=True)

_STYLES = {Finding.EQUAL: "green", Finding.BEHIND: "yellow", Finding.DIFFERENT: "bold red"}

OfField = Annotated[str | None, typer.Option("--field", help="Only this field, or all below it: prices.EUR")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def product(
    sku: Annotated[str, typer.Argument(help="The product's SKU.")],
    field: OfField = None,
    as_json: AsJson = False,
) -> None:
    """Explain a search document. Exit code 1 when it is different from its sources."""
    _tell(explain_product(Settings.load(), sku), field, as_json=as_json)


@app.command()
def customer(
    customer_id: Annotated[UUID, typer.Argument(help="The customer's id.")],
    field: OfField = None,
    as_json: AsJson = False,
) -> None:
    """Explain a customer's profile. Exit code 1 when it is different from its sources."""
    _tell(explain_customer(Settings.load(), str(customer_id)), field, as_json=as_json)


def _tell(found: Explanation, field: str | None, *, as_json: bool) -> None:
    if field is not None:
        found = found.of_field(field)
        if not found.fields:
            raise typer.BadParameter(
                f"neither the copy nor the source has a field {field}", param_hint="--field"
            )
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        narrow_console().print(as_text(found))
    if found.finding is Finding.DIFFERENT:
        raise typer.Exit(1)


def as_text(found: Explanation) -> RenderableType:
    """For people: the verdict, then each entity with its fields, then what stands and waits beside it."""
    return Group(*_head(found), *_entities(found), *_computed(found), *_beside(found))


def _head(found: Explanation) -> Iterable[RenderableType]:
    verdict = Text(f"{found.document}: ")
    verdict.append(found.finding, _STYLES[found.finding])
    if found.because:
        verdict.append(f" ({found.because})")
    yield verdict
    if found.is_known:
        shown = f"hidden: {found.hidden_because}" if found.is_hidden else "shown"
        yield Text(
            f"in {found.copy}, kept by {found.flow}; {shown}; document version {found.document_version}"
        )
    yield Text(_freshness(found))


def _freshness(found: Explanation) -> str:
    if found.fresh_until is None:
        return f"{found.flow} is not running; next: syncline run {found.flow}"
    ago = max((found.looked_at - found.fresh_until).total_seconds(), 0.0)
    return f"{found.flow} is running: what was committed {ago:.1f} s ago and before is in the copy"


def _entities(found: Explanation) -> Iterable[RenderableType]:
    for entity in found.entities:
        yield Text()
        title = Text(f"{entity.entity}: ", "bold")
        title.append(entity.finding, _STYLES[entity.finding])
        yield title.append(f" ({entity.because})", "not bold")
        yield _entity_table(entity, found)
        own = [field for field in found.fields if field.entities == (entity.entity,)]
        if own:
            yield _field_table(own)


def _entity_table(entity: EntityExplanation, found: Explanation) -> Table:
    table = list_of_facts()
    table.add_row("owner", f"{entity.owner}, in {entity.table}")
    if entity.row is not None:
        about = " (estimated)" if entity.row.commit_time_is_estimated else ""
        at = entity.row.committed_at
        table.add_row(
            "source now",
            f"version {entity.row.version}, "
            + ("written again this moment" if at is None else f"committed {shown_time(at)}{about}"),
        )
    if entity.record is not None:
        record = entity.record
        deleted = ", deleted" if record.is_deleted else ""
        corrected = f", correction {record.correction}" if record.correction else ""
        table.add_row(
            f"in {found.copy}",
            f"version {record.row_version}{corrected}{deleted}, committed {shown_time(record.committed_at)}",
        )
        table.add_row("there since", shown_time(record.synced_at))
        table.add_row("event", f"{record.event_id} at {record.position}")
    for waiting in entity.waiting:
        table.add_row("waiting", Text(waiting, "yellow"))
    return table


def _field_table(fields: Iterable[FieldExplanation]) -> Table:
    table = table_of("field", "copy", "source", "made of")
    for field in fields:
        table.add_row(
            field.field,
            Text(shown_value(field.value) if field.is_in_copy else "nothing"),
            _source_cell(field),
            Text(field.rule + _said(field)),
        )
    return table


def _said(field: FieldExplanation) -> str:
    """What each writer says, where several do."""
    said = ", ".join(f"{writer} {shown_value(value)}" for writer, value in field.said.items())
    return f"; {said}" if len(field.said) > 1 else ""


def _source_cell(field: FieldExplanation) -> Text:
    if field.finding is Finding.EQUAL:
        return Text("the same", "dim")
    value = shown_value(field.source_value) if field.is_in_source else "nothing"
    return Text(value, _STYLES[field.finding])


def _computed(found: Explanation) -> Iterable[RenderableType]:
    computed = [field for field in found.fields if len(field.entities) != 1]
    if computed:
        yield Text()
        yield Text("made of several entities, or of none", "bold")
        yield _field_table(computed)


def _beside(found: Explanation) -> Iterable[RenderableType]:
    for title, rows in (
        ("conflicts", [(each.name, _conflict(each)) for each in found.conflicts]),
        ("reviews", [(each.name, _review(each)) for each in found.reviews]),
        ("in quarantine", [(f"entry {each.id}", _quarantined(each)) for each in found.quarantine]),
        ("in retries", [(f"entry {each.id}", _retrying(each)) for each in found.retries]),
        ("in the outboxes", [(each.outbox, _unpublished(each)) for each in found.unpublished]),
    ):
        if rows:
            yield Text()
            yield Text(title, "bold")
            table = list_of_facts()
            for name, text in rows:
                table.add_row(name, Text(text))
            yield table


def _conflict(conflict: AuditedConflict) -> str:
    about = f"{conflict.entity} {conflict.field}".strip()
    text = (
        f"{conflict.kind}, {about}: {conflict.arrived.writer} v{_row(conflict.arrived.version)} met "
        f"{conflict.known.writer} v{_row(conflict.known.version)} at {shown_time(conflict.decided_at)}; "
        f"what {'arrived' if conflict.winner == 'arrived' else 'stood'} stands, by {conflict.rule}"
    )
    if conflict.resolution is not None:
        text += f"; resolved by {conflict.resolution.by}: {conflict.resolution.why}"
        if conflict.resolution.failed is not None:
            text += f", which failed: {conflict.resolution.failed.reason}"
    return text


def _row(version: tuple[int, ...]) -> int:
    return version[1] if len(version) > 1 else version[0]


def _review(review: AuditedReview) -> str:
    values = ", ".join(
        f"{writer} {shown_value(candidate.value)}" for writer, candidate in review.candidates.items()
    )
    whose = "a person's answer" if review.standing == RESOLUTION else f"{review.standing}'s"
    meanwhile = "" if review.state == "closed" else " meanwhile"
    return f"{review.state}, {review.field}: {values}; {whose} stands{meanwhile}"


def _unpublished(waiting: Unpublished) -> str:
    about = waiting.entity or "an answer of a person"
    return f"{about} version {waiting.row_version}, since {shown_time(waiting.occurred_at)}"


def _quarantined(waiting: Quarantined) -> str:
    about = waiting.entity or "a message that could not be decoded"
    version = "" if waiting.row_version is None else f" version {waiting.row_version}"
    times = "" if waiting.count == 1 else f", seen {waiting.count} times"
    since = f"since {shown_time(waiting.first_seen)}{times}, at {waiting.position}"
    return f"{waiting.state}, {about}{version} {since}; {waiting.flow} {waiting.step}: {waiting.reason}"


def _retrying(waiting: Retrying) -> str:
    about = waiting.entity or "a change"
    return f"{about} version {waiting.row_version} {waiting.told}"
