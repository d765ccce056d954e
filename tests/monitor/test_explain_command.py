"""``syncline explain`` as a person calls it, on real servers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from psycopg.types.json import Jsonb
from typer.testing import CliRunner, Result

from syncline.console.main import app
from syncline.settings import Settings
from tests.monitor.shop import Shop


@pytest.fixture
def run(own: Settings, monkeypatch: pytest.MonkeyPatch) -> "Run":
    for name, value in own.as_environment().items():
        monkeypatch.setenv(name, value)
    return Run()


class Run:
    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["explain", *arguments])

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self("product", *arguments, "--json").stdout)
        return found


def entity(found: dict[str, Any], name: str) -> dict[str, Any]:
    [only] = [each for each in found["entities"] if each["entity"] == name]
    return dict(only)


def field(found: dict[str, Any], name: str) -> dict[str, Any]:
    [only] = [each for each in found["fields"] if each["field"] == name]
    return dict(only)


def test_a_copy_that_is_right(shop: Shop, run: Run, own: Settings) -> None:
    shop.index(shop.sell("S"))
    shop.freshness(own, datetime.now(UTC))
    result = run("product", "S")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "product:S: equal"
    assert lines[1] == f"in {own.search_alias}, kept by catalog_search; shown; document version 1"
    assert lines[2].startswith("catalog_search is running: what was committed ")
    assert max(map(len, lines)) <= 120
    assert "pricing.prices.list_amount, times 10,000, a whole number" in result.stdout

    found = run.json("S")
    assert found["finding"] == "equal"
    price = entity(found, "price:EUR:S")
    assert (price["owner"], price["table"], price["finding"]) == ("pricing", "pricing.prices", "equal")
    version = price["row"]["version"]
    assert price["record"] == {
        "version": [1, version, 0, 0],
        "event_id": f"event-{version}",
        "position": f"topic/0@{version}",
        "committed_at": "2026-01-01T12:00:00+00:00",
        "synced_at": "2026-01-01T12:00:00.005000+00:00",
    }
    assert price["row"]["commit_time_is_estimated"] is False
    assert field(found, "prices.EUR.list_e4") == {
        "field": "prices.EUR.list_e4",
        "owner": "pricing",
        "rule": "pricing.prices.list_amount, times 10,000, a whole number",
        "entities": ["price:EUR:S"],
        "value": 129_000,
        "source_value": 129_000,
        "is_in_copy": True,
        "is_in_source": True,
        "said": {},
        "conflicts": [],
        "reviews": [],
        "finding": "equal",
    }
    assert field(found, "stock.available")["entities"] == ["stock:W1:S", "stock:W2:S"]


def test_a_newer_row_is_on_its_way_in_the_outbox_then_in_the_log_then_lost(
    shop: Shop, run: Run, own: Settings
) -> None:
    shop.index(shop.sell("S"))
    for schema in ("catalog", "pricing", "warehouse"):
        shop.run(f"DELETE FROM {schema}.outbox")
    shop.freshness(own, datetime.now(UTC))
    shop.run("UPDATE pricing.prices SET sale_amount = 5")

    in_outbox = run.json("S")
    assert in_outbox["finding"] == "behind"
    assert entity(in_outbox, "price:EUR:S")["because"].endswith("it is on its way, in the outbox")
    [unpublished] = in_outbox["unpublished"]
    assert (unpublished["outbox"], unpublished["entity"]) == ("pricing.outbox", "price:EUR:S")
    sale = field(in_outbox, "prices.EUR.sale_e4")
    assert (sale["value"], sale["source_value"], sale["finding"]) == (99_900, 50_000, "behind")
    assert field(in_outbox, "prices.EUR.list_e4")["finding"] == "equal"

    shop.run("DELETE FROM pricing.outbox")
    in_log = run("product", "S")
    assert in_log.exit_code == 0
    assert "it is on its way" in in_log.stdout

    shop.run("DELETE FROM sync.status")
    shop.freshness(own, datetime.now(UTC) + timedelta(seconds=1))
    lost = run("product", "S")
    assert lost.exit_code == 1
    assert "although catalog_search is past its commit" in " ".join(lost.stdout.split())


def test_what_waits_in_quarantine_is_told_with_its_reason(shop: Shop, run: Run, own: Settings) -> None:
    shop.index(shop.sell("S"))
    shop.run("UPDATE pricing.prices SET sale_amount = 50")
    version = shop.entities("S")["price:EUR:S"]["version"][1]
    shop.run("DELETE FROM pricing.outbox")
    shop.quarantine("price:EUR:S", version)
    shop.quarantine("price:EUR:OTHER-S", version)
    shop.freshness(own, datetime.now(UTC) + timedelta(seconds=1))
    found = run.json("S")
    [waiting] = found["quarantine"]
    assert (waiting["entity"], waiting["row_version"], waiting["reason"]) == (
        "price:EUR:S",
        version,
        "a rule",
    )
    assert found["finding"] == "behind"
    assert f"it waits in quarantine (entry {waiting['id']}): a rule" in found["because"]


def test_a_message_that_was_never_decoded_is_told_too(shop: Shop, run: Run) -> None:
    shop.index(shop.sell("S"))
    for number, value in enumerate((b'{"entity": "price:USD:S", "version": 3, "op": "upsert"}', b"{")):
        shop.connection.execute(
            """
            INSERT INTO sync.quarantine (
                flow, step, error, reason, topic, partition, "offset", message_key, message_value, headers,
                fingerprint
            ) VALUES ('catalog_search', 'decode', 'Undecodable', 'broken', 't', 0, %s, 'S', %s, '[]', %s)
            """,
            (number, value, value),
        )
    found = run.json("S")
    assert [each["entity"] for each in found["quarantine"]] == ["price:USD:S", None]
    dollars = entity(found, "price:USD:S")
    assert (dollars["row"], dollars["record"]) == (None, None)
    assert dollars["because"] == "neither the source nor the copy has it"
    assert "a message that could not be decoded" in run("product", "S").stdout


def test_conflicts_on_the_way_are_told(shop: Shop, run: Run) -> None:
    shop.index(shop.sell("S"))
    for entity_id in ("EUR:S", "EUR:OTHER"):
        shop.connection.execute(
            """
            INSERT INTO sync.conflicts (
                flow, kind, entity_type, entity_id, field, known_writer, known_version, known_hash,
                arrived_writer, arrived_version, arrived_hash, arrived_value, arrived_event_id, rule, winner
            ) VALUES (
                'catalog_search', 'version', 'price', %s, '', 'pricing', '[1, 5, 0, 0]', 'a',
                'pricing', '[1, 5, 0, 0]', 'b', %s, 'event', 'last_write_wins', 'known'
            )
            """,
            (entity_id, Jsonb({"sku": "S"})),
        )
    found = run.json("S")
    [conflict] = found["conflicts"]
    assert conflict["entity_id"] == "EUR:S"
    assert entity(found, "price:EUR:S")["conflicts"] == [f"c{conflict['id']}"]
    assert entity(found, "product:S")["conflicts"] == []
    told = " ".join(run("product", "S", "--field", "prices.EUR").stdout.split())
    assert "version, price:EUR:S: pricing v5 met pricing v5" in told
    assert "what stood stands, by last_write_wins" in told
    assert run.json("S", "--field", "name")["conflicts"] == []


def test_a_hidden_document_says_why(shop: Shop, run: Run) -> None:
    early = shop.sell_early("S")
    found = run.json("S")
    assert (found["finding"], found["is_hidden"]) == ("equal", True)
    assert found["hidden_because"] == (
        "its product never came; the catalog does not have it either; "
        "overdue since 2026-01-01 13:00:00 UTC: price:EUR:S, stock:W1:S, stock:W2:S"
    )

    early["_sync"]["entities"] |= {"product:S": {**shop_record(), "version": [1, 9, 1, 0]}}
    shop.index(early)
    assert run.json("S")["hidden_because"] == "its product was deleted, as of version 9"


def shop_record() -> dict[str, Any]:
    return {"hash": "0", "event_id": "e", "origin": "topic/0@1", "committed_at_us": 1, "synced_at_us": 2}


def test_an_unknown_product(shop: Shop, run: Run, own: Settings) -> None:
    never = run("product", "NONE")
    assert never.exit_code == 0
    assert never.stdout.startswith(f"product:NONE: equal ({own.search_alias} has never seen it)")
    assert "catalog_search is not running; next: syncline run catalog_search" in never.stdout

    shop.sell("S")
    found = run.json("S")
    assert (found["is_known"], found["finding"], found["document_version"]) == (False, "behind", None)
    assert field(found, "name")["is_in_copy"] is False


def test_a_correction_stands_over_the_row(shop: Shop, run: Run) -> None:
    document = shop.sell("S")
    document["prices"]["EUR"]["sale_e4"] = 1
    document["_sync"]["entities"]["price:EUR:S"]["version"][3] = 4
    shop.index(document)
    result = run("product", "S", "--field", "prices.EUR.sale_e4")
    assert result.exit_code == 1
    assert "correction 4" in result.stdout
    assert "a person's correction of version" in result.stdout


def test_a_field_that_there_is_not(shop: Shop, run: Run) -> None:
    shop.index(shop.sell("S"))
    result = run("product", "S", "--field", "colour")
    assert result.exit_code == 2
    assert "neither the copy nor the source" in result.output


def test_a_narrow_terminal_is_not_overrun(shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.index(shop.sell("S"))
    monkeypatch.setattr("syncline.console.tables.WIDEST", 50)
    lines = run("product", "S").stdout.splitlines()
    assert max(map(len, lines)) <= 50
