"""Reviews in ``sync.reviews``: one row a field of an entity, as the newest telling has it."""

from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import pytest

from sinks.reviews import reviews
from syncline.circuit import Circuits
from syncline.model.change import EntityKey
from syncline.model.decision import Candidate, Review
from syncline.settings import Settings
from syncline.stopping import Stop

CUSTOMER = EntityKey("customer", "00000000-0000-0000-0000-000000000001")


class Row(NamedTuple):
    state: str
    standing: str
    document_version: int
    candidates: dict[str, Any]
    opened_at: datetime
    told_at: datetime


@pytest.fixture
def dsn(own: Settings) -> str:
    dsn = own.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE sync.reviews")
    return dsn


def review(document_version: int, *, is_open: bool = True, field: str = "email", **values: str) -> Review:
    candidates = {writer: Candidate(value, 7, 1_000) for writer, value in values.items()}
    return Review(CUSTOMER, field, candidates, "storefront", is_open, document_version)


def tell(dsn: str, *told: Review) -> None:
    sink = reviews("tests", dsn, Circuits(Stop()).postgres)
    sink.write(told)
    sink.close()


def row(dsn: str, field: str = "email") -> Row:
    with psycopg.connect(dsn) as connection:
        [found] = connection.execute(
            "SELECT state, standing, document_version, candidates, opened_at, told_at FROM sync.reviews"
            " WHERE flow = 'tests' AND entity_type = 'customer' AND entity_id = %s AND field = %s",
            (CUSTOMER.id, field),
        ).fetchall()
    return Row(*found)


def test_a_review_names_each_writer_s_value(dsn: str) -> None:
    tell(dsn, review(1, storefront="a@x", crm="🦆@x"), review(1, field="phone", support="1"))
    told = row(dsn)
    assert (told.state, told.standing) == ("open", "storefront")
    assert told.candidates == {
        "storefront": {"value": "a@x", "version": 7, "at_us": 1_000},
        "crm": {"value": "🦆@x", "version": 7, "at_us": 1_000},
    }
    assert list(row(dsn, "phone").candidates) == ["support"]


def test_an_older_telling_never_overwrites_a_newer(dsn: str) -> None:
    tell(dsn, review(5, is_open=False))
    closed = row(dsn)
    tell(dsn, review(4, crm="late"))
    assert row(dsn) == closed
    tell(dsn, review(8, is_open=False), review(9), review(7, crm="late"))
    assert (row(dsn).state, row(dsn).document_version) == ("open", 9)


def test_the_same_telling_again_changes_nothing(dsn: str) -> None:
    tell(dsn, review(5), review(5))
    before = row(dsn)
    tell(dsn, review(5))
    assert row(dsn) == before


def test_it_is_opened_when_it_opens_and_not_when_more_is_told_of_it(dsn: str) -> None:
    tell(dsn, review(1))
    opened = row(dsn)
    tell(dsn, review(2, crm="more"))
    assert row(dsn).opened_at == opened.opened_at
    assert row(dsn).told_at > opened.told_at
    tell(dsn, review(3, is_open=False))
    assert row(dsn).opened_at == opened.opened_at
    tell(dsn, review(4))
    assert row(dsn).opened_at > opened.told_at
