from pathlib import Path

import pytest

from bench import results
from bench.backlog import read_records, write_records
from bench.catalog_search import CATALOG_SEARCH
from bench.goods import Goods
from bench.ledger import record
from bench.raw_bulk import read_bodies, write_bodies
from syncline.model.errors import Misconfigured


def test_records_survive_their_file(tmp_path: Path) -> None:
    records = [record(change, "") for change in Goods(1).launch()]
    with (tmp_path / "records").open("wb") as file:
        write_records(file, records)
    assert list(read_records(tmp_path / "records")) == records


def test_bodies_survive_their_file(tmp_path: Path) -> None:
    bodies = [("SKU-1", b'{"name":"a"}'), ("SKU-2", b"{}")]
    with (tmp_path / "bodies").open("wb") as file:
        write_bodies(file, bodies)
    with (tmp_path / "bodies").open("rb") as file:
        assert list(read_bodies(file)) == bodies


def test_a_folder_without_results_is_empty_and_a_broken_file_says_so(tmp_path: Path) -> None:
    assert results.read(tmp_path) == {}
    (tmp_path / results.FILE).write_text("{")
    with pytest.raises(Misconfigured, match="remove it"):
        results.read(tmp_path)


def test_quick_is_quicker() -> None:
    for measurement in CATALOG_SEARCH.measurements.values():
        assert measurement.minutes(CATALOG_SEARCH.quick) < measurement.minutes(CATALOG_SEARCH.full) / 3
