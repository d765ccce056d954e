"""``syncline run FLOW``: a flow in this shell, kept alive until Ctrl-C."""

import signal
from types import FrameType
from typing import Annotated

import typer

from syncline.flow_processes import FLOWS, check_share
from syncline.process import configure_logs
from syncline.settings import Settings
from syncline.supervisor import Supervisor


def run(
    flow: Annotated[str, typer.Argument(help=f"One of {', '.join(FLOWS)}.")],
    processes: Annotated[int, typer.Option(min=1, help="How many, as one Bytewax cluster.")] = 1,
) -> None:
    """Run a flow: creates its recovery folder, starts its processes, and starts them again when they die.

    SIGTERM and Ctrl-C are passed on to them, and end it.
    """
    settings = Settings.load()
    configure_logs(settings.log_level)
    supervisor = Supervisor(flow, check_share(flow, processes, settings.topic_partitions))

    def pass_on(signal_number: int, _frame: FrameType | None) -> None:
        supervisor.stop(signal.Signals(signal_number))

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, pass_on)
    raise typer.Exit(supervisor.run())
