"""``syncline references``: which prices and stock still wait for a product that never came?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer

from syncline.clock import system_clock_us
from syncline.console.tables import narrow_console, shown_time, table_of
from syncline.monitor.overdue_references import Found, find_overdue
from syncline.settings import Settings

SHOWN = 100


@dataclass(slots=True)
class Report:
    overdue: int = 0
    in_source: int = 0
    """Of those: the source has what never came to the copy."""
    references: list[Found] = field(default_factory=list)


def references(
    limit: Annotated[int, typer.Option(min=1, help="Name at most so many.")] = SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List what the search copy hides for longer than its policy allows; exit code 1 when there is any."""
    report = Report()
    for found in find_overdue(Settings.load(), datetime.fromtimestamp(system_clock_us() / 1e6, UTC)):
        report.overdue += 1
        report.in_source += found.is_in_source
        if report.overdue <= limit:
            report.references.append(found)
    if as_json:
        plain = {
            "overdue": report.overdue,
            "in_source": report.in_source,
            "references": list(map(_plain, report.references)),
        }
        typer.echo(orjson.dumps(plain, option=orjson.OPT_INDENT_2).decode())
    else:
        _tell(report)
    if report.overdue:
        raise typer.Exit(1)


def _plain(found: Found) -> dict[str, object]:
    overdue = found.overdue
    return {
        "entity": str(overdue.entity),
        "referenced": str(overdue.referenced),
        "since": overdue.since,
        "overdue_since": overdue.overdue_since,
        "is_in_source": found.is_in_source,
    }


def _tell(report: Report) -> None:
    console = narrow_console()
    if not report.overdue:
        console.print("none is overdue")
        return
    table = table_of("entity", "hidden since", "overdue since", "what never came", "the source")
    for found in report.references:
        overdue = found.overdue
        table.add_row(
            str(overdue.entity),
            shown_time(overdue.since),
            shown_time(overdue.overdue_since),
            str(overdue.referenced),
            "has it: a change is missing" if found.is_in_source else "does not have it either",
        )
    console.print(table)
    if report.overdue > len(report.references):
        console.print(f"... and {report.overdue - len(report.references):,} more; see them with --limit")
    console.print(f"{report.overdue:,} overdue; of {report.in_source:,} the source has what never came")
    for line in _next(report.references):
        console.print(line)


def _next(references: Sequence[Found]) -> list[str]:
    lines = []
    missing = next((found.overdue.referenced for found in references if found.is_in_source), None)
    unknown = next((found.overdue for found in references if not found.is_in_source), None)
    if missing is not None:
        lines.append(f"Next: syncline explain {missing.type} {missing.id}, to see where its change is")
    if unknown is not None:
        lines.append(
            f"Next: let the owner of {unknown.referenced} add it, or that of {unknown.entity} delete that"
        )
    return lines
