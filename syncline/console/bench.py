"""``syncline bench``: how fast is a flow on this machine, and what does it cost?"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from syncline.model.errors import Misconfigured
from syncline.settings import Settings

if TYPE_CHECKING:
    from bench.measurement import Measurement, Sizes, Suite

DEFAULT_FOLDER = Path("docs/bench")

console = Console(highlight=False)


def bench(
    flow: Annotated[str, typer.Argument(help="The flow to measure: catalog_search.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: does it work at all?")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder for results and plots. [default: {DEFAULT_FOLDER}; quick: in SYNCLINE_HOME]"
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Just this one; the others' results stay as they are. Scenarios need to be named."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=3, help="How long each rate is held, or a scenario goes on.")
    ] = None,
) -> None:
    """Measure a flow on this machine's servers: throughput, latency, and growth.

    Everything happens in a database, topics and an index of its own, which are removed at the end.
    """
    suite = _suite(flow)
    chosen = _chosen(suite, only)
    sizes = suite.quick if quick else suite.full
    if seconds is not None:
        sizes = replace(sizes, seconds=seconds, outage_seconds=seconds, endurance_seconds=seconds)
    if quick:
        console.print("Quick: does everything work? The sizes are too small for the figures to mean much.")
    settings = Settings.load()
    folder = out or (settings.home / "bench-quick" if quick else DEFAULT_FOLDER)
    _measure(settings, chosen, sizes, folder)


def _suite(flow: str) -> "Suite":
    if find_spec("psutil") is None:
        raise Misconfigured(f"the bench needs psutil; run: {sys.executable} -m pip install 'psutil>=7.1'")
    # Here, not above: the bench's extras need not be installed for the other verbs.
    from bench.catalog_search import CATALOG_SEARCH  # noqa: PLC0415

    suites = {suite.flow: suite for suite in (CATALOG_SEARCH,)}
    if flow not in suites:
        raise Misconfigured(f"flow: no bench measures {flow!r}; there are {', '.join(suites)}")
    return suites[flow]


def _chosen(suite: "Suite", only: str | None) -> "Mapping[str, Measurement]":
    if only is None:
        return {name: each for name, each in suite.measurements.items() if not each.is_scenario}
    if only not in suite.measurements:
        raise Misconfigured(f"only: there is no {only!r}; there are {', '.join(suite.measurements)}")
    return {only: suite.measurements[only]}


def _measure(
    settings: Settings, measurements: "Mapping[str, Measurement]", sizes: "Sizes", folder: Path
) -> None:
    from bench import machine, plots, results, scratch  # noqa: PLC0415

    plots.check_installed()
    versions = scratch.check_servers(settings)
    described = {**machine.describe(), "servers": versions}
    minutes = sum(measurement.minutes(sizes) for measurement in measurements.values())
    console.print(
        f"{described['cores']} cores, {described['memory_gib']} GiB; about {minutes:.0f} min in all. "
        "Leave the machine alone meanwhile."
    )
    found = results.read(folder)
    with scratch.alone(settings):
        for name, measurement in measurements.items():
            title = f"[bold]{name}[/]: {measurement.what}, about {measurement.minutes(sizes):.0f} min"
            with console.status(title) as status:
                outcome = measurement.measure(
                    settings,
                    sizes,
                    lambda doing, title=title: status.update(f"{title}\n  {doing}"),  # type: ignore[misc]
                )
            found[name] = results.of(measurement, outcome, sizes, described)
            results.write(folder, found)
            console.print(results.table(found[name]))
            console.print(results.load_line(found[name]), style="dim")
    for path in (folder / results.FILE, *plots.draw(found, folder)):
        console.print(f"wrote {path}")
