"""Readiness follows progress: a flow that does not get on is not ready, however alive its processes are."""

import random
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from syncline.flow_processes import FlowProcesses, free_ports
from syncline.provision import create_recovery_folder
from syncline.settings import Settings
from syncline.stack.ports import CANDIDATES, is_free
from syncline.supervisor import Backoff, Supervisor
from tests.log import Log
from tests.own import but
from tests.process.probes import get
from tests.process.test_supervisor import supervised
from tests.services.database import Database
from tests.waiting import eventually

AT_ONCE = Backoff(timedelta(seconds=0.1), timedelta(seconds=0.5))


def ports(count: int) -> list[int]:
    """That follow one another, as the processes of a flow have them."""
    runs = (range(first, first + count) for first in random.sample(CANDIDATES, len(CANDIDATES)))
    return list(next(run for run in runs if all(map(is_free, run))))


@pytest.mark.timeout(180)
def test_a_process_that_hangs_makes_its_peers_not_ready_until_it_goes_on(
    own: Settings, database: Database, tmp_path: Path
) -> None:
    hung, peer = ports(2)
    settings = but(own, home=tmp_path, health_port=hung, ready_within_s=2)
    folder = create_recovery_folder(settings, "catalog_search")
    with FlowProcesses("catalog_search", settings, folder, 2, tmp_path / "flow.log") as flow:
        eventually(lambda: get(hung, "/ready")[0] == get(peer, "/ready")[0] == 200, what="both ready")
        flow.processes[0].send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: get(peer, "/ready")[0] == 503, what="the peer's wait")
            assert get(peer, "/live")[0] == 200, "to restart it would not help"
            assert get(hung, "/ready")[0] == get(hung, "/live")[0] == 0, "no answer"
        finally:
            flow.processes[0].send_signal(signal.SIGCONT)
        eventually(lambda: get(hung, "/ready")[0] == get(peer, "/ready")[0] == 200, what="both ready again")


@pytest.mark.timeout(120)
def test_a_flow_in_a_crash_loop_is_never_ready(
    own: Settings, log: Log, database: Database, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    settings = but(own, home=tmp_path, health_port=port, search_alias="own-nowhere")
    seen: set[int] = set()

    def is_in_a_loop() -> bool:
        seen.add(get(port, "/ready")[0])
        rows = database.ask("SELECT error FROM sync.status WHERE state = 'failed'")
        return any("crash loop" in error for (error,) in rows)

    with supervised(Supervisor("catalog_search", 1, lambda: settings, AT_ONCE, tmp_path / "flow.log")):
        eventually(is_in_a_loop, what="the crash loop")
    assert 200 not in seen
