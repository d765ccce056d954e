"""A recovery folder that cannot be read or written is told for what it is, with a way out."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from syncline.model.errors import RecoveryUnusable, Unavailable
from syncline.provision import create_recovery_folder
from syncline.recovery_folder import check_recovery_folder, check_room_in, what_is_wrong_with
from syncline.settings import Settings
from tests.log import Log
from tests.own import but
from tests.process.probes import TO_END_S, assert_one_line
from tests.process.running import Running
from tests.process.test_flow import is_indexed, produce
from tests.services.database import Database
from tests.waiting import eventually

WAY_OUT = "remove it, and the flow reads the log from its beginning, which costs time only: rm -r"


@pytest.fixture
def folder(own: Settings, tmp_path: Path) -> Path:
    return create_recovery_folder(but(own, home=tmp_path), "catalog_search")


def part(folder: Path) -> Path:
    return min(folder.glob("part-*.sqlite3"))


def garble(folder: Path) -> None:
    size = part(folder).stat().st_size
    part(folder).write_bytes(os.urandom(size))


def cut_off(folder: Path) -> None:
    os.truncate(part(folder), part(folder).stat().st_size // 2 + 100)


def test_a_folder_that_is_whole_is_no_problem(folder: Path) -> None:
    assert what_is_wrong_with(folder) is None


@pytest.mark.parametrize("harm", [garble, cut_off])
def test_a_part_that_is_damaged_is_named_with_the_way_out(folder: Path, harm: Callable[[Path], None]) -> None:
    harm(folder)
    with pytest.raises(RecoveryUnusable, match=rf"corrupt.*{part(folder).name}.*rm -r {folder}$"):
        check_recovery_folder(folder)


def test_a_part_that_is_missing_is_counted(folder: Path) -> None:
    part(folder).unlink()
    with pytest.raises(RecoveryUnusable, match="has 3 of 4 parts"):
        check_recovery_folder(folder)


def test_a_folder_that_is_made_ready_is_looked_at(own: Settings, folder: Path, tmp_path: Path) -> None:
    garble(folder)
    with pytest.raises(RecoveryUnusable, match=f"rm -r {folder}$"):
        create_recovery_folder(but(own, home=tmp_path), "catalog_search")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    check_room_in(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Unavailable, match="cannot be written"):
        check_room_in(tmp_path / "nowhere")


def test_a_flow_whose_recovery_folder_is_corrupt_says_so_in_one_line(
    own: Settings, log: Log, database: Database, running: Running
) -> None:
    folder = running.recovery_folder
    garble(folder)
    flow = running.start_as_it_is("catalog_search", folder, {})
    assert flow.outcome() == 1, flow.text
    assert_one_line(flow.text, f"{WAY_OUT} {folder}")
    [(error,)] = database.ask("SELECT error FROM sync.status WHERE state = 'failed'")
    assert error.startswith("RecoveryUnusable: ")


def test_a_flow_whose_recovery_folder_is_full_says_so_and_resumes_when_there_is_room(
    own: Settings, log: Log, database: Database, running: Running
) -> None:
    full = running.start_as_it_is("catalog_search", running.recovery_folder, {}, largest_file_bytes=60_000)
    produce(log, own, *(f"full-{n}" for n in range(50)))
    assert full.outcome() == 1, full.text
    assert "the recovery folder cannot be written (File too large); free some space" in full.text
    assert "Traceback" not in full.text
    again = running.start("catalog_search")
    eventually(lambda: is_indexed(own, "full-49"), what="the index")
    assert again.end(signal.SIGTERM) < TO_END_S
