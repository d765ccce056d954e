"""``syncline run FLOW``: a flow in this shell, until Ctrl-C."""

import signal
from types import FrameType
from typing import Annotated

import typer

from syncline.flow_processes import FLOWS, FlowProcesses, check_flow
from syncline.provision import create_recovery_folder
from syncline.settings import Settings


def run(
    flow: Annotated[str, typer.Argument(help=f"One of {', '.join(FLOWS)}.")],
    processes: Annotated[int, typer.Option(min=1, help="How many, as one Bytewax cluster.")] = 1,
) -> None:
    """Run a flow: creates its recovery folder, starts its processes, and passes signals on to them."""
    settings = Settings.load()
    keeps_snapshots = FLOWS[check_flow(flow)]
    folder = create_recovery_folder(settings, flow) if keeps_snapshots else None
    running = FlowProcesses(flow, settings, folder, processes)

    def pass_on(signal_number: int, _frame: FrameType | None) -> None:
        running.signal(signal.Signals(signal_number))

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, pass_on)
    running.start()
    raise typer.Exit(running.wait())
