"""``syncline policies``: what the business has decided, whether it makes sense, and what it would do."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sinks.elasticsearch import ElasticsearchStore
from sinks.postgres_documents import PostgresStore
from syncline.clock import system_clock_us
from syncline.model import envelope
from syncline.model.document import DocumentShape
from syncline.model.errors import Misconfigured
from syncline.model.message import Message
from syncline.monitor.dry_run import DryRun, Verdict
from syncline.policies.customer_profile import CustomerProfile
from syncline.policies.ownership import entities_of
from syncline.policies.policies import FlowPolicy
from syncline.policies.policy_file import PolicyFile, RuleSection
from syncline.policies.reading import faults_of, load_policies
from syncline.policies.search_document import SearchDocument
from syncline.services.schema import installation_of
from syncline.settings import Settings

app = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console(highlight=False, soft_wrap=True)

DEFAULT_FLOW = "catalog_search"


@app.command()
def check(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of policy files; without it that of SYNCLINE_POLICIES_DIR, or Syncline's own."
        ),
    ] = None,
) -> None:
    """Tell all that is wrong with the policies, by file and line; exit code 1 when anything is."""
    again = "syncline policies check" if folder is None else f"syncline policies check {folder}"
    folder = folder or Settings.load().policies_dir
    faults = faults_of(folder)
    for fault in faults:
        typer.echo(str(fault))
    if faults:
        typer.echo(f"{len(faults)} to mend; then again: {again}")
        raise typer.Exit(1)
    names = ", ".join(file.entity for file in load_policies(folder).files)
    typer.echo(f"no fault in {folder or 'the policies of Syncline itself'}: {names}")


@app.command()
def show(entity: Annotated[str, typer.Argument(help="Such as product.")]) -> None:
    """Print what is decided about an entity."""
    settings = Settings.load()
    file = load_policies(settings.policies_dir).of(entity)
    topics = ", ".join(each.topic(settings.topic_prefix) for each in entities_of(file))
    console.print(f"[bold]{file.entity}[/], owned by {file.owner}; {file.criticality}")
    console.print(f"rows of {file.source.table}, on {topics}")
    console.print(f"told of what goes wrong: {', '.join(file.notify)}")
    for name, flow in file.flows.items():
        conditions = "; ".join(_condition(each.model_dump(exclude_none=True)) for each in flow.where)
        wants = f"{' and '.join(flow.operations)}{f' where {conditions}' if conditions else ''}"
        console.print(f"flow {name}: {wants}")
    console.print(_columns_table(file))
    for rule in file.rules:
        console.print(f"rule: {_rule(rule)}")


def _columns_table(file: PolicyFile) -> Table:
    table = Table(
        "column", "type", "kept as", "may be written by", "when two write it", box=None, pad_edge=False
    )
    for name, column in file.columns.items():
        kept = [
            f"{flow}: {field}{'' if source.transform == 'as_is' else f' ({source.transform})'}"
            for flow, section in file.flows.items()
            for field, source in section.fields.items()
            if source.from_ == name
        ]
        if name in {file.source.document, file.source.slot}:
            kept.append("key")
        owned = next((field for key, field in file.fields.items() if name in (field.columns or [key])), None)
        writers = [file.owner] if not file.writers else [] if owned is None else owned.writers
        strategy: str = file.strategy if owned is None else owned.strategy or file.strategy
        if owned is not None and owned.rule is not None:
            strategy = f"{strategy}: {owned.rule}"
        required = ", never null" if column.required else ""
        table.add_row(
            name,
            f"{column.type}{required}",
            "\n".join(kept),
            ", ".join(writers),
            strategy if len(writers) > 1 or not file.writers else "",
        )
    return table


def _condition(said: dict[str, Any]) -> str:
    column = said.pop("column")
    [(name, value)] = said.items()
    if name == "present":
        return f"{column} is {'there' if value else 'null'}"
    return f"{column} is {'' if name == 'one_of' else 'not '}{' or '.join(map(str, value))}"


def _rule(rule: RuleSection) -> str:
    if rule.column is not None:
        return f"{rule.column} {_of_column(rule)}"
    if rule.required is not None:
        return f"{rule.required} is there"
    if rule.references is not None:
        return f"there is a {rule.references}; until then it is hidden, and told of after {rule.grace_s} s"
    return f"{rule.python} has nothing to say against it"


def _of_column(rule: RuleSection) -> str:
    if rule.one_of is not None:
        return f"is one of {', '.join(map(str, rule.one_of))}"
    if rule.pattern is not None:
        return f"matches {rule.pattern}"
    if rule.at_most is not None:
        return f"is at most {rule.at_most}"
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", rule.min), ("at most", rule.max))
        if bound is not None
    ]
    return f"is {' and '.join(bounds)}"


@app.command()
def outbox(entity: Annotated[str, typer.Argument(help="Such as product.")]) -> None:
    """Print the SQL, for psql, that gives the entity's tables an outbox in their schema, and triggers."""
    file = load_policies(Settings.load().policies_dir).of(entity)
    typer.echo(installation_of(file))


@app.command(name="try")
def try_out(
    file: Annotated[
        Path,
        typer.Argument(
            help="One change a line, as the services publish them.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ],
    flow: Annotated[str, typer.Option(help="The flow whose steps they take.")] = DEFAULT_FLOW,
    empty: Annotated[
        bool, typer.Option("--empty", help="As if the copy were empty, instead of as it is; needs no server.")
    ] = False,
) -> None:
    """Show what a flow would make of changes, one after another. Nothing is written.

    A line is a change: {"entity": "price:EUR:SKU-1", "op": "upsert", "version": 7, "fields": {...}}, with
    "writer" where several services write the entity.
    """
    settings = Settings.load()
    policy = load_policies(settings.policies_dir).flow(flow)
    shape, open_store = _COPIES[flow]
    with ExitStack() as until:
        store = None if empty else until.enter_context(closing(open_store(settings)))
        run = DryRun(policy, shape(policy), store, settings.topic_prefix)
        for verdict in run(list(_messages(file, policy, settings.topic_prefix))):
            _show_verdict(verdict)


def _search_index(settings: Settings) -> ElasticsearchStore:
    return ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)


def _profiles(settings: Settings) -> PostgresStore:
    return PostgresStore(settings.postgres_dsn.get_secret_value(), "syncline-policies")


class _Copy(NamedTuple):
    shape: Callable[[FlowPolicy], DocumentShape]
    store: Callable[[Settings], ElasticsearchStore | PostgresStore]


_COPIES: Mapping[str, _Copy] = {
    "catalog_search": _Copy(lambda _policy: SearchDocument(), _search_index),
    "customer_profiles": _Copy(lambda policy: CustomerProfile(policy.conflicts), _profiles),
}
"""By flow."""


def _messages(file: Path, policy: FlowPolicy, prefix: str) -> Iterator[Message]:
    by_writer = {(entity.type, entity.writer): entity for entity in policy.entities}
    now_us = system_clock_us()
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            change = orjson.loads(line)
            entity_type, _, entity_id = change["entity"].partition(":")
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
            raise Misconfigured(f"{file}:{number}: this is no change ({error}); see --help") from error
        entity = by_writer.get((entity_type, change.get("writer")))
        if entity is None:
            wanted = ", ".join(
                f"{kind}{f' with writer {writer}' if writer else ''}" for kind, writer in by_writer
            )
            raise Misconfigured(
                f"{file}:{number}: entity: {policy.name} wants {wanted}, and not {entity_type!r}; see --flow"
            )
        key = entity.split_id(entity_id)[1].encode()
        headers = ((envelope.EVENT_ID, f"line-{number}".encode()),)
        yield Message(entity.topic(prefix), 0, number - 1, key, line, headers, now_us, now_us)


def _show_verdict(verdict: Verdict) -> None:
    message, decision, error, conflict, part, document = verdict
    style = {"quarantined": "red", "applied": "green"}.get(decision, "yellow")
    console.print(f"[bold]line {message.offset + 1}[/]", Text(decision, style=style))
    console.print("  raw:      ", Text((message.value or b"").decode(errors="replace")))
    if part is not None:
        console.print("  part:     ", Text(f"{part.entity} {orjson.dumps(part.body).decode()}"))
    if error is not None:
        console.print("  error:    ", Text(error, style="red"))
    if conflict is not None:
        console.print("  conflict: ", Text(f"{conflict.kind}: {conflict.rule}"))
    if document is not None:
        shown = {name: value for name, value in document.items() if name != "_sync"}
        console.print("  document: ", Text(orjson.dumps(shown).decode()))
