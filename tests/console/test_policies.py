"""``syncline policies`` as a person calls it."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from syncline.console.policies import app
from syncline.model.errors import Misconfigured
from tests.changes import payload, price, product
from tests.customers import ANN


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no settings are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_has_nothing_to_say_of_syncline_s_own() -> None:
    result = run("check")

    assert (result.exit_code, result.stdout.split(": ")[1]) == (0, "customer, price, product, stock\n")


def test_check_tells_what_is_wrong(folder: Path) -> None:
    (folder / "price.toml").write_text('entity = "price"\nownr = "pricing"\n')

    result = run("check", str(folder))

    assert result.exit_code == 1
    assert "price.toml:2: ownr: there is no key 'ownr'; did you mean owner?" in result.stdout


def test_show_prints_who_decides_what() -> None:
    text = run("show", "customer").stdout

    assert "rows of customers.{writer}, on syncline.customers.storefront" in text
    assert "flow customer_profiles: upsert and delete" in text
    assert "manual" in text
    text = run("show", "price").stdout
    assert "rule: sale_amount is at most list_amount" in text
    assert "rule: currency is one of EUR, USD, GBP, CHF, JPY" in text


def test_show_of_something_else_says_what_there_is() -> None:
    with pytest.raises(Misconfigured, match="there are policies for customer, price"):
        run("show", "order")


def changes(folder: Path, *values: object) -> str:
    path = folder / "changes.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, values)))
    return str(path)


def test_try_shows_change_document_decision_and_errors(folder: Path) -> None:
    path = changes(
        folder,
        payload("product", product(name="Kettle"), 3),
        payload("product", product(name="Older"), 2),
        payload("price", price(list_amount="5", sale_amount="6"), 1),
        payload("price", price(list_amount="x"), 1),
        payload("product", product(), 3, "delete"),
    )

    result = run("try", path, "--empty")

    blocks = result.stdout.split("line ")[1:]
    assert [block.split()[1] for block in blocks] == [
        "applied",
        "superseded",
        "quarantined",
        "quarantined",
        "applied",
    ]
    assert '"name":"Kettle"' in blocks[1].partition("document:")[2]
    assert "sale_amount: 6.0000 must be at most list_amount, 5.0000" in blocks[2]
    assert "business_rule" in blocks[2]
    assert "list_amount: 'x': Input should be a valid decimal" in blocks[3]
    assert '"name"' not in blocks[4].partition("document:")[2]


def test_try_takes_the_steps_of_the_flow_that_is_named(folder: Path) -> None:
    said = {"version": 1, "at": "2026-01-01T12:00:00.000000Z"}
    row = {"id": ANN, "email": "ann@a.example", "field_versions": {"email": said}, "based_on": {}}
    change = {"entity": f"customer:{ANN}", "op": "upsert", "version": 1, "fields": row}
    other = {**row, "email": "ann@b.example", "field_versions": {"email": {**said, "version": 2}}}
    path = changes(
        folder, {**change, "writer": "crm"}, {**change, "writer": "support", "version": 2, "fields": other}
    )

    result = run("try", path, "--flow", "customer_profiles", "--empty")

    assert result.stdout.count("applied") == 2
    assert "conflict:  timestamp: manual" in result.stdout
    with pytest.raises(Misconfigured, match="customer with writer storefront"):
        run("try", changes(folder, change), "--flow", "customer_profiles", "--empty")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[]", "changes.jsonl:1: this is no change"),
        ("{", "changes.jsonl:1: this is no change"),
        ('{"entity": "order:1"}', "entity: catalog_search wants price, product, stock, and not 'order'"),
    ],
)
def test_try_says_which_line_is_no_change(folder: Path, line: str, told: str) -> None:
    path = folder / "changes.jsonl"
    path.write_text(line)

    with pytest.raises(Misconfigured, match=told):
        run("try", str(path), "--empty")
