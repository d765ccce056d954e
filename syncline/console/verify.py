"""``syncline verify``: does the copy say what its sources say?"""

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from syncline.console.tables import shortened
from syncline.monitor.verification import SETTLE, SHOWN, VERIFICATIONS, KeyReport, VerificationReport
from syncline.monitor.verification import verify as verify_copy
from syncline.settings import Settings


def verify(
    flow: Annotated[str, typer.Argument(help=f"One of {', '.join(VERIFICATIONS)}.")],
    show_all: Annotated[bool, typer.Option("--all", help="Name every key that differs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    settle: Annotated[
        float, typer.Option(min=0, help="Wait so many seconds for changes that are on the road.")
    ] = SETTLE.total_seconds(),
) -> None:
    """Compare every document with the source tables, field by field; exit code 1 when any differ."""
    with Console(stderr=True).status(f"Comparing {flow} with its sources ..."):
        report = verify_copy(flow, Settings.load(), timedelta(seconds=settle), None if show_all else SHOWN)
    typer.echo(report.to_json() if as_json else as_text(report))
    if not report.is_clean:
        raise typer.Exit(1)


def as_text(report: VerificationReport) -> str:
    """For people: what differs, then the sum of it, then what to do."""
    lines = []
    for keys, count, word in (
        (report.explained_keys, report.explained, f"explained by {report.explanations}"),
        (report.differing_keys, report.differing, "differing"),
    ):
        for key in keys:
            lines += _key_lines(word, key)
        if count > len(keys):
            lines.append(f"... and {count - len(keys):,} more {word}; name them all with --all")
    lines.append(
        f"{report.in_source:,} {report.of} in the source, {report.documents:,} documents in the copy, "
        f"hidden ones included; compared in {report.seconds:.1f} s"
    )
    lines.append(report.summary)
    if report.differing:
        lines.append("Next: syncline status, to see whether both flows run and how far behind they are")
    return "\n".join(lines)


def _key_lines(word: str, key: KeyReport) -> list[str]:
    because = f" ({', '.join(key.quarantined)})" if key.quarantined else ""
    return [
        f"{word}: {key.key}{because}",
        *(
            f"  {field}: source {_shown(source)}, copy {_shown(copy)}"
            for field, source, copy in key.differences
        ),
    ]


def _shown(value: str | None) -> str:
    return "nothing" if value is None else shortened(value)
