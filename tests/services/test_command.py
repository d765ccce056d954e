"""``syncline shop``, run as people run it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.services.database import Database

COMMAND = [sys.executable, "-c", "from syncline.console.main import main; main()", "shop"]


def start(database: Database, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env={**os.environ, "SYNCLINE_POSTGRES_DSN": database.dsn, "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(database: Database, *arguments: str) -> tuple[int, str, str]:
    process = start(database, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_it_commits_so_many_changes_and_tells_the_rate(database: Database) -> None:
    code, out, err = run(database, "--rate", "5000", "--changes", "500", "--seed", "7")
    assert (code, err) == (0, "")
    assert "changes/s of the 5,000 asked for" in out
    assert sum(len(database.outbox(schema)) for schema in ("catalog", "pricing", "warehouse")) >= 500


def test_an_interrupt_ends_it_with_its_summary(database: Database) -> None:
    process = start(database, "--rate", "200")
    while not database.outbox("warehouse"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "changes/s of the 200 asked for" in out


def test_a_file_with_bad_lines_is_loaded_but_fails(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "products.jsonl"
    file.write_text('{"sku": "A"}\n{"sku": ""}\n{"sku": "B"}\n')
    code, out, err = run(database, "load", str(file))
    assert code == 1
    assert "2 products loaded" in out
    assert err.startswith("line 2: sku: ''")
    assert "1 line not loaded" in err


def test_a_good_file_is_loaded(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "products.jsonl"
    file.write_text('{"sku": "A"}\n')
    code, out, err = run(database, "load", str(file))
    assert (code, err) == (0, "")
    assert "1 product loaded" in out


def test_a_database_without_the_services_says_what_to_run(database: Database) -> None:
    database.dsn = database.dsn.replace(database.ask("SELECT current_database()")[0][0], "postgres")
    code, _, err = run(database, "--changes", "1")
    assert code == 1
    assert "syncline setup" in err


def test_customers_are_edited_by_three_services(database: Database) -> None:
    code, out, err = run(database, "customers", "--rate", "5000", "--changes", "400", "--seed", "7")
    assert (code, err) == (0, "")
    assert "changes/s of the 5,000 asked for" in out
    assert re.search(r"\b[1-9]\d* times two services edited one field", out)
    assert len(database.outbox("customers")) >= 400
    assert database.outbox("catalog") == []
