"""A user's own products, from a file."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from syncline.services.loading import Loaded, Problem, check_line, load
from syncline.services.schema import SCHEMAS
from tests.services.database import Database

KETTLE = {
    "sku": "K-1",
    "name": "Kettle 😀",
    "description": "Boils water.",
    "brand": "Oakwright",
    "category": "kitchen",
    "attributes": {"litres": 1.7, "deep": {"list": [1, None, True]}},
    "tags": ["gift", "new home"],
    "status": "active",
    "prices": {
        "EUR": {
            "list_amount": "12.90",
            "sale_amount": 9.9,
            "valid_from": "2026-01-01T00:00:00+02:00",
            "valid_to": "2026-02-01T00:00:00Z",
        },
        "USD": {"list_amount": 13},
    },
    "stock": {"W1": {"on_hand": 5, "reserved": 2}, "BERLIN": {"on_hand": 7}},
}


def file_of(folder: Path, *lines: object) -> Path:
    path = folder / "products.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines))
    return path


def load_into(database: Database, path: Path) -> tuple[Loaded, list[Problem]]:
    problems: list[Problem] = []
    return load(path, dict.fromkeys(SCHEMAS, database.dsn), problems.append), problems


def test_a_product_arrives_whole(database: Database, tmp_path: Path) -> None:
    loaded, problems = load_into(database, file_of(tmp_path, KETTLE))
    assert problems == []
    assert loaded == Loaded(1, 0, {("product", "upsert"): 1, ("price", "upsert"): 2, ("stock", "upsert"): 2})
    columns = ("sku", "name", "description", "brand", "category", "attributes", "tags", "status")
    (row,) = database.ask(f"SELECT {', '.join(columns)} FROM catalog.products")
    assert dict(zip(columns, row, strict=True)) == {column: KETTLE[column] for column in columns}
    prices = database.ask(
        "SELECT currency, list_amount, sale_amount, valid_from, valid_to FROM pricing.prices ORDER BY 1"
    )
    assert prices == [
        (
            "EUR",
            Decimal("12.9"),
            Decimal("9.9"),
            datetime(2025, 12, 31, 22, tzinfo=UTC),
            datetime(2026, 2, 1, tzinfo=UTC),
        ),
        ("USD", Decimal(13), None, None, None),
    ]
    stock = database.ask("SELECT warehouse_id, on_hand, reserved FROM warehouse.stock ORDER BY 1")
    assert stock == [("BERLIN", 7, 0), ("W1", 5, 2)]


def test_the_last_line_of_a_sku_stands(database: Database, tmp_path: Path) -> None:
    lines = [{"sku": f"S-{number % 7}", "name": f"name {number}"} for number in range(1_000)]
    loaded, _ = load_into(database, file_of(tmp_path, *lines))
    assert loaded.products == 1_000
    names = dict(database.ask("SELECT sku, name FROM catalog.products"))
    assert names == {line["sku"]: line["name"] for line in lines[-7:]}


def test_good_lines_are_loaded_and_bad_ones_told(database: Database, tmp_path: Path) -> None:
    bad = KETTLE | {"sku": "K-2", "stock": {"W1": {"on_hand": "five"}}}
    lines = (b"\xef\xbb\xbf" + orjson.dumps({"sku": "A"}), bad, b"", b"   ", b"{broken", {"sku": "B"}, b"")
    loaded, problems = load_into(database, file_of(tmp_path, *lines))
    assert (loaded.products, loaded.bad_lines) == (2, 2)
    assert [problem.line for problem in problems] == [2, 5]
    assert database.ask("SELECT sku FROM catalog.products ORDER BY 1") == [("A",), ("B",)]
    assert (
        database.ask("SELECT sku FROM pricing.prices") == []
    )  # of the bad line nothing, not even its good parts


def test_five_thousand_lines(database: Database, tmp_path: Path) -> None:
    loaded, problems = load_into(
        database, file_of(tmp_path, *(KETTLE | {"sku": f"K-{n}"} for n in range(5_000)))
    )
    assert (loaded.products, problems) == (5_000, [])
    assert database.ask("SELECT count(*) FROM warehouse.stock") == [(10_000,)]


BAD = [
    (b"", "line", "an object"),
    (b"[]", "line", "an object"),
    (b'"text"', "line", "an object"),
    (b'{"sku": "A"', "line", "an object"),
    (b'{"sku": "A", "name": "\xff"}', "line", "an object"),
    (b'{"sku": "A", "attributes": {"n": NaN}}', "line", "an object"),
    (b'{"sku": "A", "attributes": {"n": 1e400}}', "line", "an object"),
    (b'{"sku": "A", "name": "\\ud800"}', "line", "an object"),
    (b'{"name": "A"}', "sku", "1 to 128 characters"),
    (b'{"sku": ""}', "sku", "1 to 128 characters"),
    (b'{"sku": null}', "sku", "1 to 128 characters"),
    (b'{"sku": 5}', "sku", "1 to 128 characters"),
    (b'{"sku": "%s"}' % (b"x" * 129), "sku", "1 to 128 characters"),
    (b'{"sku": "A", "nmae": "K"}', "nmae", "one of sku, name"),
    (b'{"sku": "A", "name": 5}', "name", "text"),
    (b'{"sku": "A", "name": "a\\u0000b"}', "name", "without it"),
    (b'{"sku": "A", "attributes": {"a": ["\\u0000"]}}', "attributes.a.0", "without it"),
    (b'{"sku": "A", "attributes": {"\\u0000": 1}}', "attributes", "without it"),
    (b'{"sku": "A", "attributes": []}', "attributes", "an object"),
    (b'{"sku": "A", "attributes": {"n": 99999999999999999999}}', "attributes", "64 bits"),
    (b'{"sku": "A", "tags": "led"}', "tags", "a list of texts"),
    (b'{"sku": "A", "tags": ["led", 5]}', "tags.1", "a list of texts"),
    (b'{"sku": "A", "prices": []}', "prices", "an object"),
    (b'{"sku": "A", "prices": {"eur": {"list_amount": 1}}}', "prices.eur", "three capital letters"),
    (b'{"sku": "A", "prices": {"EUR": 12.9}}', "prices.EUR", "list_amount"),
    (b'{"sku": "A", "prices": {"EUR": {}}}', "prices.EUR.list_amount", "12.90"),
    (b'{"sku": "A", "prices": {"EUR": {"list_amount": "abc"}}}', "prices.EUR.list_amount", "12.90"),
    (b'{"sku": "A", "prices": {"EUR": {"list_amount": "NaN"}}}', "prices.EUR.list_amount", "12.90"),
    (b'{"sku": "A", "prices": {"EUR": {"list_amount": -1}}}', "prices.EUR.list_amount", "zero or more"),
    (b'{"sku": "A", "prices": {"EUR": {"list_amount": "1.23456"}}}', "prices.EUR.list_amount", "4 decimals"),
    (b'{"sku": "A", "prices": {"EUR": {"list_amount": "123456789"}}}', "prices.EUR.list_amount", "8 digits"),
    (b'{"sku": "A", "prices": {"EUR": {"list_amount": 1, "valid_to": "2026-01-01T00:00:00"}}}',
     "prices.EUR.valid_to", "zone"),
    (b'{"sku": "A", "prices": {"EUR": {"list_amount": 1, "vat": 7}}}', "prices.EUR.vat", "one of list_"),
    (b'{"sku": "A", "stock": {"W:1": {"on_hand": 1}}}', "stock.W:1", "no colon"),
    (b'{"sku": "A", "stock": {"W1": {"on_hand": "1"}}}', "stock.W1.on_hand", "a whole number"),
    (b'{"sku": "A", "stock": {"W1": {"on_hand": 1.5}}}', "stock.W1.on_hand", "a whole number"),
    (b'{"sku": "A", "stock": {"W1": {"on_hand": true}}}', "stock.W1.on_hand", "a whole number"),
    (b'{"sku": "A", "stock": {"W1": {"on_hand": 2147483648}}}', "stock.W1.on_hand", "2147483647"),
    (b'{"sku": "A", "stock": {"W1": {"on_hand": -1}}}', "stock.W1.on_hand", "from 0"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "field", "right"), BAD)
def test_a_bad_line_names_the_field_and_what_would_be_right(line: bytes, field: str, right: str) -> None:
    product, (problem,) = check_line(17, line)
    assert product is None
    assert str(problem).startswith(f"line 17: {field}: ")
    assert right in problem.right
    assert "_Product" not in str(problem)
    assert len(str(problem)) < 400


def test_each_wrong_field_of_a_line_is_told() -> None:
    _, problems = check_line(1, b'{"sku": "", "name": 5, "stock": {"W1": {}}}')
    assert [problem.field for problem in problems] == ["sku", "name", "stock.W1.on_hand"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"sku": "A", "prices": {"EUR": {"list_amount": "99999999.9999"}}}',
        b'{"sku": "A", "prices": {"EUR": {"list_amount": 0, "valid_to": "9999-12-31T23:59:59.999999Z"}}}',
        b'{"sku": "A", "prices": {"EUR": {"list_amount": 0, "valid_to": "0001-01-01T00:00:00Z"}}}',
        b'{"sku": "A", "stock": {"W1": {"on_hand": 2147483647, "reserved": 2147483647}}}',
        b'{"sku": "A", "attributes": {"n": 9223372036854775807, "f": 1e-300}}',
        '{"sku": "%s"}'.replace("%s", "😀" * 128).encode(),
        '{"sku": "A", "stock": {"%s": {"on_hand": 1}}}'.replace("%s", "ä" * 64).encode(),
    ],
)
def test_what_the_check_lets_pass_the_tables_take(database: Database, tmp_path: Path, line: bytes) -> None:
    loaded, problems = load_into(database, file_of(tmp_path, line))
    assert (loaded.products, problems) == (1, [])
