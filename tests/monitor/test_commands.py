"""The two commands as a person calls them."""

import orjson
import pytest
import typer
from typer.testing import CliRunner, Result

from syncline.console.status import status
from syncline.console.verify import verify
from syncline.settings import Settings
from tests.monitor.shop import Shop
from tests.own import but

app = typer.Typer()
app.command("verify")(verify)
app.command("status")(status)


def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(app, arguments)


def test_verify_of_a_good_copy(shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.index(shop.sell("S"))
    result = run(own, monkeypatch, "verify", "catalog_search")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "verified: 1 of 1 documents equal their sources"


def test_verify_names_what_differs(shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(21):
        document = shop.sell(f"S{number:02}")
        document["prices"]["EUR"]["list_e4"] = 1
        shop.index(document)
    result = run(own, monkeypatch, "verify", "catalog_search", "--settle", "0")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:2] == ["differing: S00", "  prices.EUR.list_e4: source 129000, copy 1"]
    assert "... and 1 more differing; name them all with --all" in lines
    assert (
        "differing: S20" in run(own, monkeypatch, "verify", "catalog_search", "--settle", "0", "--all").stdout
    )


def test_verify_for_programs(shop: Shop, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sell("S")
    result = run(own, monkeypatch, "verify", "catalog_search", "--settle", "0", "--json")
    assert result.exit_code == 1
    report = orjson.loads(result.stdout)
    assert (report["products"], report["documents"], report["differing"]) == (1, 0, 1)


def test_status_is_narrow_and_says_what_is_next(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(own, monkeypatch, "status")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "syncline run outbox_relay" in result.stdout


def test_status_for_programs(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    flows = orjson.loads(run(own, monkeypatch, "status", "--json").stdout)["flows"]
    assert [flow["flow"] for flow in flows] == ["outbox_relay", "catalog_search", "customer_profiles"]


def test_status_names_the_server_that_is_away(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(but(own, redis_url="redis://127.0.0.1:1/0"), monkeypatch, "status")
    assert result.exit_code == 1
    assert "redis at 127.0.0.1:1 does not answer" in result.stdout
    assert "syncline stack up" in result.stdout
