"""Several processes of one flow live and die together."""

import signal
import time
from pathlib import Path

import pytest

from syncline.flow_processes import (
    BEREAVED_TIMEOUT_SECONDS,
    FLOWS,
    FlowProcesses,
    check_flow,
    check_share,
    free_ports,
)
from syncline.model.errors import Misconfigured
from syncline.provision import create_recovery_folder
from syncline.settings import Settings
from tests.own import but
from tests.services.database import Database
from tests.waiting import eventually


@pytest.fixture
def folder(own: Settings, tmp_path: Path) -> Path:
    return create_recovery_folder(but(own, home=tmp_path), "catalog_search")


def started(log: Path, count: int) -> bool:
    return log.exists() and log.read_text().count('"event": "starting"') >= count


def test_a_flow_that_there_is_none_of_is_told() -> None:
    with pytest.raises(Misconfigured, match=f"there is no 'nothing'; there are {', '.join(FLOWS)}"):
        check_flow("nothing")


@pytest.mark.parametrize(("processes", "partitions"), [(1, 3), (3, 3), (2, 6), (6, 6)])
def test_processes_that_share_the_partitions_evenly(processes: int, partitions: int) -> None:
    assert check_share("catalog_search", processes, partitions) == processes


@pytest.mark.parametrize(("processes", "partitions"), [(2, 3), (4, 3), (6, 3)])
def test_processes_that_do_not_are_refused(processes: int, partitions: int) -> None:
    with pytest.raises(Misconfigured, match=f"{processes} cannot share 3 partitions evenly.*take 1 or 3"):
        check_share("catalog_search", processes, partitions)


def test_a_flow_that_reads_no_partitions_is_free_to_stand_by() -> None:
    assert check_share("outbox_relay", 2, 3) == 2


def test_ports_are_free_and_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_one_that_dies_takes_the_others_with_it(
    own: Settings, database: Database, folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "flow.log"
    with FlowProcesses("catalog_search", own, folder, processes=2, log=log) as flow:
        assert len(flow.processes) == 2
        eventually(lambda: started(log, 2), what="the start of both")
        flow.processes[1].kill()
        begun = time.monotonic()
        assert flow.wait() != 0
        assert time.monotonic() - begun < BEREAVED_TIMEOUT_SECONDS + 2, "nothing is worth waiting for"
        assert all(process.poll() is not None for process in flow.processes)


def test_all_of_them_end_cleanly_together(
    own: Settings, database: Database, folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "flow.log"
    with FlowProcesses("catalog_search", own, folder, processes=2, log=log) as flow:
        eventually(lambda: started(log, 2), what="the start of both")
        flow.signal(signal.SIGTERM)
        assert flow.wait() == 0, log.read_text()


def test_each_process_has_a_health_port_of_its_own(own: Settings, tmp_path: Path) -> None:
    flow = FlowProcesses("catalog_search", but(own, health_port=5000), tmp_path, processes=3)
    assert [flow._environment(number)["SYNCLINE_HEALTH_PORT"] for number in range(3)] == [
        "5000",
        "5001",
        "5002",
    ]


def test_leaving_the_block_leaves_no_process(own: Settings, database: Database, tmp_path: Path) -> None:
    with FlowProcesses("outbox_relay", own, None, log=tmp_path / "relay.log") as relay:
        [process] = relay.processes
        assert process.poll() is None
    assert process.poll() is not None
