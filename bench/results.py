"""Results as they are kept (``results.json``) and shown."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.table import Column, Table

from bench.figures import Figure, number
from bench.measurement import Measurement, Outcome, Sizes
from syncline.model.errors import Misconfigured

FILE = "results.json"
Results = dict[str, Any]
"""By measurement."""


def of(
    measurement: Measurement, outcome: Outcome, sizes: Sizes, machine: Mapping[str, Any]
) -> dict[str, Any]:
    """All that is worth keeping of one measurement."""
    return {
        "what": measurement.what,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "sizes": sizes,
        "figures": [figure.to_plain() for figure in outcome.figures],
        "runs": list(outcome.runs),
    }


def figures(result: Mapping[str, Any]) -> list[Figure]:
    return [Figure.from_plain(plain) for plain in result["figures"]]


def read(folder: Path) -> Results:
    """What the folder holds; nothing where there is no file yet."""
    try:
        results: Results = orjson.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except orjson.JSONDecodeError as error:
        raise Misconfigured(f"{folder / FILE} is no file of the bench's: {error}; remove it") from error
    return results


def write(folder: Path, results: Results) -> None:
    """Replace the file; a run that is cut short leaves the old one."""
    folder.mkdir(parents=True, exist_ok=True)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    new = folder / f"{FILE}.new"
    new.write_bytes(orjson.dumps(results, option=options))
    new.replace(folder / FILE)


def table(result: Mapping[str, Any]) -> Table:
    """The figures: the median, from the least to the most, and the target."""
    shown = Table(
        "case",
        "figure",
        Column("median", justify="right"),
        "unit",
        Column("least to most", justify="right"),
        "target",
        title=result["what"],
        box=None,
    )
    case = ""
    for figure in figures(result):
        spread = (
            f"{number(min(figure.values))} to {number(max(figure.values))}" if len(figure.values) > 1 else ""
        )
        verdict = "" if figure.target is None else f"{figure.target} {'met' if figure.is_met else 'MISSED'}"
        shown.add_row(
            "" if figure.case == case else figure.case,
            figure.name,
            number(figure.median),
            figure.unit,
            spread,
            verdict,
            style=None if figure.is_met else "red",
        )
        case = figure.case
    return shown


def load_line(result: Mapping[str, Any]) -> str:
    """What the machine did besides, over all runs."""
    loads = [run["load"] for run in result["runs"]]

    def spread(name: str) -> str:
        values = [load[name] for load in loads]
        return f"{number(min(values))} to {number(max(values))}"

    return (
        f"{len(loads)} runs; load average before them {spread('load_average_before')}; during them "
        f"{spread('idle_percent')} % idle, {spread('waiting_for_disk_percent')} % waiting for the disk, "
        f"{spread('stolen_percent')} % stolen by other machines"
    )
