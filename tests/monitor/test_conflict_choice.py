"""What a person chose, as what is sent: covers, corrections, values by kind, and every refusal."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from syncline.model.decision import ConflictKind
from syncline.model.errors import NotPossible
from syncline.monitor.audited_conflicts import (
    AuditedCandidate,
    AuditedConflict,
    AuditedReview,
    AuditedSide,
    FailedAnswer,
    Resolution,
)
from syncline.monitor.conflict_choice import Choice, answer_conflict, answer_review, value_of
from syncline.policies.reading import load_policies
from tests.changes import price

ENTITIES = load_policies().entities
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CUSTOMER = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


def review(**values: object) -> AuditedReview:
    """Of an email, of which the storefront's stands."""
    return AuditedReview(
        id=12,
        flow="customer_profiles",
        entity_type="customer",
        entity_id=CUSTOMER,
        field="email",
        state="open",
        candidates={
            writer: AuditedCandidate(value, version, NOON)
            for version, (writer, value) in enumerate(values.items(), 5)
        },
        standing="storefront",
        opened_at=NOON,
        told_at=NOON,
        resolution=None,
    )


TWO = review(storefront="a@x", crm="b@x")
THREE = review(storefront="a@x", crm="b@x", support=None)


def conflict(**changed: Any) -> AuditedConflict:  # noqa: ANN401 - any of the fields
    """Two contents of a price's version 7; the incoming one lost."""
    known = AuditedSide("pricing", (2, 7, 0, 0), "b", None, None)
    arrived = AuditedSide("pricing", (2, 7, 0, 0), "a", price(), "topic/0@9")
    of_price = AuditedConflict(
        id=34,
        flow="catalog_search",
        kind=ConflictKind.VERSION,
        entity_type="price",
        entity_id="EUR:SKU-1",
        field="",
        known=known,
        arrived=arrived,
        arrived_event_id="event",
        rule="last_write_wins: the higher content hash",
        winner="known",
        decided_at=NOON,
        resolution=None,
    )
    return replace(of_price, **changed)


STORED = price(list_amount="99.0000")


def in_the_log(of: AuditedConflict) -> dict[str, Any]:
    """What stood."""
    assert of.name == "c34"
    return STORED


def take(side: str | None, *settings: tuple[str, str]) -> Choice:
    return Choice(side, settings, "anna", "she asked them")


@pytest.mark.parametrize(
    ("of", "choice", "value"),
    [
        (TWO, take("crm"), "b@x"),
        (TWO, take("storefront"), "a@x"),
        (TWO, take("stored"), "a@x"),
        (TWO, take("incoming"), "b@x"),
        (THREE, take("stored"), "a@x"),
        (THREE, take("support"), None),
        (TWO, take(None, ("email", "c@x")), "c@x"),
        (TWO, take(None, ("email", "12")), "12"),
        (THREE, take(None, ("email", "null")), None),
    ],
)
def test_an_answer_to_a_review_covers_all_that_it_showed(
    of: AuditedReview, choice: Choice, value: str | None
) -> None:
    how, sending = answer_review(of, choice, 77, NOON)
    covers = {writer: candidate.version for writer, candidate in of.candidates.items()}
    assert sending is not None
    assert (sending.kind, sending.document_id) == ("resolution", CUSTOMER)
    assert sending.payload == {
        "kind": "resolution",
        "flow": "customer_profiles",
        "entity_type": "customer",
        "document_id": CUSTOMER,
        "field": "email",
        "value": value,
        "covers": covers,
        "at": "2026-01-01T12:00:00.000000Z",
        "by": "anna",
        "why": "she asked them",
        "version": 77,
    }
    settings = dict(choice.settings)
    assert how == {"take": choice.take, "set": settings, "value": value, "covers": covers, "version": 77}


@pytest.mark.parametrize(
    ("of", "choice", "why_not"),
    [
        (replace(TWO, state="closed"), take("crm"), "r12 is closed"),
        (THREE, take("incoming"), "incoming: r12 has values of crm, storefront, support; take one"),
        (TWO, take("support"), "support: r12 has values of crm, storefront; take one"),
        (TWO, take(None, ("phone", "1")), "r12 is about one field: --set email=VALUE"),
        (TWO, take(None, ("email", "1"), ("email", "2")), "r12 is about one field"),
        (TWO, take("crm", ("email", "1")), "--take or --set, not both"),
    ],
)
def test_what_answers_no_review_is_refused(of: AuditedReview, choice: Choice, why_not: str) -> None:
    with pytest.raises(NotPossible, match=why_not):
        answer_review(of, choice, 77, NOON)


def sent(of: AuditedConflict, choice: Choice) -> dict[str, Any]:
    """The change inside of the replay."""
    _, sending = answer_conflict(of, choice, ENTITIES, "shop", 78, in_the_log)
    assert sending is not None
    assert (sending.kind, sending.document_id) == ("replay", "SKU-1")
    payload = sending.payload
    change = orjson.loads(bytes.fromhex(payload.pop("value")))
    assert payload == {
        "kind": "replay",
        "flow": "catalog_search",
        "quarantine_id": None,
        "topic": "shop.pricing.price",
        "key": b"SKU-1".hex(),
        "headers": [["id", b"event".hex()], ["generation", b"2".hex()]],
        "correction": 78,
        "by": "anna",
        "why": "she asked them",
        "version": 78,
    }
    assert (change["entity"], change["op"], change["version"]) == ("price:EUR:SKU-1", "upsert", 7)
    fields: dict[str, Any] = change["fields"]
    return fields


def test_the_side_that_lost_is_replayed_with_a_correction() -> None:
    assert sent(conflict(), take("incoming")) == price()


def test_a_field_of_it_may_be_set_right() -> None:
    choice = take("incoming", ("list_amount", "13.5000"), ("sale_amount", "null"))
    assert sent(conflict(), choice) == price(list_amount="13.5000", sale_amount=None)
    won = conflict(winner="arrived")
    assert sent(won, take(None, ("list_amount", "1"))) == price(list_amount="1")


def test_what_stood_is_asked_of_the_log() -> None:
    assert sent(conflict(winner="arrived"), take("stored")) == STORED
    choice = take(None, ("sale_amount", "1"))
    assert sent(conflict(), choice) == {**STORED, "sale_amount": "1"}


def test_an_answer_that_failed_may_be_given_anew() -> None:
    failed = Resolution("bert", "he knew", NOON, {"version": 3}, FailedAnswer(7, "a rule"))
    assert sent(conflict(resolution=failed), take("incoming")) == price()


def test_the_side_that_stands_only_closes_the_conflict() -> None:
    assert answer_conflict(conflict(), take("stored"), ENTITIES, "shop", 78, in_the_log).sending is None
    assert (
        answer_conflict(
            conflict(winner="arrived"), take("incoming"), ENTITIES, "shop", 78, in_the_log
        ).sending
        is None
    )


@pytest.mark.parametrize(
    ("of", "choice", "why_not"),
    [
        (
            conflict(kind=ConflictKind.OWNERSHIP),
            take("incoming"),
            "pricing may not write price.*the owner must",
        ),
        (conflict(kind=ConflictKind.BUSINESS_RULE), take("incoming"), "breaks the rule.*in quarantine"),
        (conflict(field="email"), take("incoming"), "email was decided by last_write_wins.*open review"),
        (conflict(kind=ConflictKind.TIMESTAMP), take("incoming"), "decided by its rule"),
        (conflict(), take("pricing"), "two sides, incoming and stored"),
        (conflict(), take("incoming", ("colour", "red")), "colour: c34 has the fields currency, list_amount"),
        (
            conflict(resolution=Resolution("bert", "he knew", NOON, {})),
            take("incoming"),
            "c34 was resolved by bert: he knew",
        ),
    ],
)
def test_what_cannot_be_resolved_so_says_what_would_be_right(
    of: AuditedConflict, choice: Choice, why_not: str
) -> None:
    with pytest.raises(NotPossible, match=why_not):
        answer_conflict(of, choice, ENTITIES, "shop", 78, in_the_log)


@pytest.mark.parametrize(("by", "why"), [("", "so"), (" ", "so"), ("anna", " ")])
def test_who_and_why_must_be_said(by: str, why: str) -> None:
    with pytest.raises(NotPossible, match="who decides and why"):
        Choice("incoming", (), by, why)


def test_a_choice_must_choose() -> None:
    with pytest.raises(NotPossible, match="say what is right"):
        Choice(None, (), "anna", "so")


@pytest.mark.parametrize(
    ("text", "alike", "value"),
    [
        ("7", ["x"], "7"),
        ("7", [3], 7),
        ("7", [None, 3], 7),
        ("7", [None], "7"),
        ('["a"]', [["b"]], ["a"]),
        ("true", [False], True),
        ("null", ["x"], None),
        ('{"a": 1}', [{}], {"a": 1}),
    ],
)
def test_a_value_is_of_the_kind_that_the_field_has(text: str, alike: list[object], value: object) -> None:
    assert value_of("field", text, alike) == value


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(NotPossible, match=r"on_hand: many is not JSON, as in 3"):
        value_of("on_hand", "many", [3])
