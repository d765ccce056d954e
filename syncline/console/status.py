"""``syncline status``: how the flows are doing, and what to do next."""

from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from syncline.model.dependency import DependencyState
from syncline.monitor.status import FlowStatus, Status, read_status
from syncline.settings import Settings

_WIDTH = 100
_STYLES = {"running": "green", "failed": "bold red", "stopped": "yellow"}


def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show each flow: state, lag, freshness, latency, last error, and the next command to run.

    Exit code 1 when a server does not answer.
    """
    found = read_status(Settings.load())
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(found)
    if found.silent_servers:
        raise typer.Exit(1)


def _show(found: Status) -> None:
    console = Console(highlight=False)
    if not console.is_terminal or console.width > _WIDTH:
        console.width = _WIDTH
    if found.flows:
        console.print(flows_table(found.flows))
    for server in found.silent_servers:
        problem = f"{server.name} at {server.address} does not answer: {server.error}"
        console.print(Text(problem, style="red"), soft_wrap=True)
    if found.silent_servers:
        console.print(
            "Next: syncline stack up, or, for servers of your own, look at them and at their addresses "
            "in the settings",
            soft_wrap=True,
        )


def flows_table(flows: list[FlowStatus]) -> Table:
    """A column for each flow."""
    table = Table("", *(Column(flow.flow, overflow="fold") for flow in flows), box=None, pad_edge=False)
    rows: dict[str, list[str | Text]] = {
        "state": [
            Text(_state(flow), style="red" if flow.held_by else _STYLES.get(flow.state, "")) for flow in flows
        ],
        "waiting": [_waiting(flow) for flow in flows],
        "oldest waiting": [_duration(flow.oldest_waiting_seconds) for flow in flows],
        "freshness": [_freshness(flow) for flow in flows],
        "depends on": [_dependencies(flow) for flow in flows],
        "last minute": [_last_minute(flow) for flow in flows],
        "latency": [_latency(flow) for flow in flows],
        "in quarantine": [f"{flow.quarantined:,}" for flow in flows],
        "in retries": [_retries(flow) for flow in flows],
        "last error": [_last_error(flow) for flow in flows],
        "next": [Text(flow.next_command, style="bold") for flow in flows],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _state(flow: FlowStatus) -> str:
    if flow.since is None:
        return flow.state
    state = f"{flow.state} for {_duration((datetime.now(UTC) - flow.since).total_seconds())}"
    return state if flow.held_by is None else f"{state}, holds its place: {flow.held_by}"


def _freshness(flow: FlowStatus) -> str:
    by_owner = [f"{owner} {_duration(seconds)}" for owner, seconds in flow.freshness_by_owner.items()]
    return ", ".join(by_owner) or "-"


def _dependencies(flow: FlowStatus) -> Text:
    """Those that are well in a word."""
    text = ", ".join(
        target if state is DependencyState.UP else f"{target} {state} since {since:%H:%M:%S}"
        for target, state, since, *_ in flow.dependencies
    )
    is_well = all(dependency.state is DependencyState.UP for dependency in flow.dependencies)
    return Text(text or "-", style="" if is_well else "red")


def _waiting(flow: FlowStatus) -> str:
    text = ", ".join(
        f"{place} {'unknown' if count is None else f'{count:,}'}" for place, count in flow.waiting.items()
    )
    if flow.uncounted_records:
        text += f" and part of {flow.uncounted_records:,} records"
    return text or "-"


def _retries(flow: FlowStatus) -> str:
    text = f"{flow.retrying:,}"
    return f"{text}, and {flow.escalated:,} escalated" if flow.escalated else text


def _last_minute(flow: FlowStatus) -> str:
    if not flow.last_minute:
        return "no changes"
    by_decision = ", ".join(f"{count:,} {decision}" for decision, count in flow.last_minute.items())
    return f"{by_decision} ({flow.changes_per_second:,.1f}/s)"


def _latency(flow: FlowStatus) -> str:
    known = {name: value for name, value in flow.latency_ms.items() if value is not None}
    return ", ".join(f"{name.upper()} {value:,.1f} ms" for name, value in known.items()) or "-"


def _last_error(flow: FlowStatus) -> Text:
    if flow.last_error is None or flow.last_error_at is None:
        return Text("-")
    ago = _duration((datetime.now(UTC) - flow.last_error_at).total_seconds())
    return Text(f"{ago} ago: {flow.last_error}")


def _duration(seconds: float | None) -> str:
    """In the unit that suits its size."""
    if seconds is None:
        return "-"
    seconds = max(seconds, 0.0)
    if seconds < 120:
        return f"{seconds:.1f} s"
    for unit, length in (("min", 60), ("h", 3_600)):
        if seconds < 120 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
