"""The verdict on hand-made facts: equal, behind (and where it is), different (and why)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from operators.transform import Transform
from syncline.model.change import EntityKey
from syncline.monitor.explanation import (
    CopyRecord,
    Explanation,
    Facts,
    Finding,
    Quarantined,
    Retrying,
    SourceEntity,
    SourceRow,
    Unpublished,
    explain,
)
from syncline.monitor.search_fields import SearchFields
from syncline.policies.search_document import SearchDocument
from tests.changes import SEARCH, change_message, change_of, price, product, stock

FIELDS = SearchFields(SEARCH)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PRODUCT, PRICE = "product:SKU-1", "price:EUR:SKU-1"


def record(version: int, op_rank: int = 0, correction: int = 0) -> CopyRecord:
    return CopyRecord((1, version, op_rank, correction), f"event-{version}", "topic/0@1", NOON, NOON)


def content(**price_fields: object) -> dict[str, Any]:
    return {"name": "Kettle", "prices": {"EUR": {"list_e4": 129_000, "sale_e4": None, **price_fields}}}


def facts(**changed: Any) -> Facts:  # noqa: ANN401 - any of the fields
    """A product with a price, both as the sources have them, in a copy that is fresh up to noon."""
    equal = Facts(
        document=EntityKey("product", "SKU-1"),
        flow="catalog_search",
        copy="products",
        is_known=True,
        is_hidden=False,
        should_be_hidden=False,
        hidden_because="its product never came",
        document_version=1,
        records={PRODUCT: record(5), PRICE: record(7)},
        entities={
            PRODUCT: SourceEntity("catalog", "catalog", "catalog.products", SourceRow(5, NOON), PRODUCT),
            PRICE: SourceEntity("pricing", "pricing", "pricing.prices", SourceRow(7, NOON), PRICE),
        },
        fields=FIELDS.of("SKU-1", content()),
        source_fields=FIELDS.of("SKU-1", content()),
        conflicts=(),
        reviews=(),
        quarantine=(),
        retries=(),
        unpublished=(),
        fresh_until=NOON + timedelta(seconds=1),
        looked_at=NOON + timedelta(seconds=2),
    )
    return replace(equal, **changed)


def with_price_row(row: SourceRow | None, **changed: Any) -> Facts:  # noqa: ANN401
    """As ``facts``, with another row of the price, which says something else."""
    entities = {**facts().entities, PRICE: SourceEntity("pricing", "pricing", "pricing.prices", row, PRICE)}
    said = {"source_fields": FIELDS.of("SKU-1", content(list_e4=1)), "entities": entities}
    return facts(**{**said, **changed})


def price_of(explanation: Explanation) -> tuple[Finding, str]:
    [entity] = [each for each in explanation.entities if each.entity == PRICE]
    return entity.finding, entity.because


def quarantined(version: int, *, is_delete: bool = False, entity: str = PRICE) -> Quarantined:
    return Quarantined(
        3,
        "open",
        "catalog_search",
        "apply",
        "Invalid",
        "a rule",
        entity,
        version,
        is_delete,
        "t/0@2",
        NOON,
        NOON,
        1,
    )


def retrying(version: int, state: str = "waiting", *, is_delete: bool = False) -> Retrying:
    return Retrying(4, state, "catalog_search", "locked", PRICE, version, is_delete, "t/0@2", NOON, 3, NOON)


def test_what_the_source_says_is_equal() -> None:
    explanation = explain(facts())
    assert (explanation.finding, explanation.because) == (Finding.EQUAL, "")
    assert {field.finding for field in explanation.fields} == {Finding.EQUAL}
    assert price_of(explanation) == (Finding.EQUAL, "both have version 7")


LATER = NOON + timedelta(seconds=3)
NEWER = SourceRow(9, LATER)
VERSIONS = "the source has version 9, the copy 7"
PAST = f"{VERSIONS}, although catalog_search is past its commit"
IN_RETRIES = "waits in retries (entry 4, turned back 3 times"
RESTORED = "was the source restored to an earlier point? Then raise its generation and read it again"


@pytest.mark.parametrize(
    ("found", "finding", "because"),
    [
        (with_price_row(NEWER), Finding.BEHIND, f"{VERSIONS}; it is on its way"),
        (with_price_row(SourceRow(9, None)), Finding.BEHIND, f"{VERSIONS}; it is on its way"),
        (
            with_price_row(NEWER, fresh_until=LATER),
            Finding.BEHIND,
            f"{VERSIONS}; it is on its way",
        ),
        (
            with_price_row(NEWER, fresh_until=LATER + timedelta(microseconds=1)),
            Finding.DIFFERENT,
            PAST,
        ),
        (
            with_price_row(SourceRow(9, NOON, commit_time_is_estimated=True)),
            Finding.DIFFERENT,
            f"{PAST} (by the row's own time; its commit may be later)",
        ),
        (
            with_price_row(NEWER, fresh_until=None),
            Finding.BEHIND,
            f"{VERSIONS}; catalog_search is not running",
        ),
        (
            with_price_row(NEWER, quarantine=[quarantined(9)], fresh_until=LATER + timedelta(1)),
            Finding.BEHIND,
            f"{VERSIONS}; it waits in quarantine (entry 3): a rule",
        ),
        (
            with_price_row(NEWER, quarantine=[quarantined(8)], fresh_until=LATER + timedelta(1)),
            Finding.DIFFERENT,
            PAST,
        ),
        (
            with_price_row(NEWER, retries=[retrying(8), retrying(9)], fresh_until=LATER + timedelta(1)),
            Finding.BEHIND,
            f"{VERSIONS}; it {IN_RETRIES}, next at 2026-01-01 12:00:00 UTC): locked",
        ),
        (
            with_price_row(NEWER, retries=[retrying(9, "escalated")], fresh_until=LATER + timedelta(1)),
            Finding.BEHIND,
            f"{VERSIONS}; it {IN_RETRIES}, escalated): locked; next: syncline retries show 4",
        ),
        (
            with_price_row(None, retries=[retrying(7, "sent", is_delete=True)]),
            Finding.BEHIND,
            f"the source has no such row any more; its delete {IN_RETRIES}, on its way again): locked",
        ),
        (
            with_price_row(NEWER, unpublished=[Unpublished("pricing.outbox", "e", "price", PRICE, 9, LATER)]),
            Finding.BEHIND,
            f"{VERSIONS}; it is on its way, in the outbox",
        ),
        (
            with_price_row(SourceRow(6, NOON)),
            Finding.DIFFERENT,
            f"the source has version 6, the copy 7: {RESTORED}",
        ),
        (
            with_price_row(SourceRow(7, NOON)),
            Finding.DIFFERENT,
            "both have version 7, with other content",
        ),
        (
            with_price_row(SourceRow(7, NOON), records={PRICE: record(7, correction=2), PRODUCT: record(5)}),
            Finding.DIFFERENT,
            "a person's correction of version 7 stands over the row, until the source is corrected too",
        ),
        (
            with_price_row(SourceRow(7, NOON), records={PRICE: record(7, op_rank=1), PRODUCT: record(5)}),
            Finding.DIFFERENT,
            "the copy has version 7 as deleted, the source has the row",
        ),
        (
            with_price_row(NEWER, records={PRODUCT: record(5)}),
            Finding.BEHIND,
            "the source has version 9, the copy none; it is on its way",
        ),
        (
            with_price_row(None),
            Finding.BEHIND,
            "the source has no such row any more; if that stays, its delete was lost",
        ),
        (
            with_price_row(None, quarantine=[quarantined(7, is_delete=True)]),
            Finding.BEHIND,
            "the source has no such row any more; its delete waits in quarantine (entry 3)",
        ),
        (
            with_price_row(None, unpublished=[Unpublished("pricing.outbox", "e", "price", PRICE, 7, LATER)]),
            Finding.BEHIND,
            "the source has no such row any more; its delete is on its way, in the outbox",
        ),
        (
            with_price_row(None, fresh_until=None),
            Finding.BEHIND,
            "the source has no such row any more; catalog_search is not running",
        ),
    ],
)
def test_a_source_that_says_something_else(found: Facts, finding: Finding, because: str) -> None:
    explanation = explain(found)
    assert price_of(explanation) == (finding, because)
    assert (explanation.finding, explanation.because) == (finding, f"{PRICE}: {because}")
    [field] = [field for field in explanation.fields if field.field == "prices.EUR.list_e4"]
    assert (field.value, field.source_value, field.finding) == (129_000, 1, finding)


def test_deleted_on_both_sides_is_equal() -> None:
    gone = FIELDS.of("SKU-1", {"name": "Kettle", "prices": {}})
    records = {PRODUCT: record(5), PRICE: record(7, op_rank=1)}
    explanation = explain(with_price_row(None, records=records, fields=gone, source_fields=gone))
    assert price_of(explanation) == (Finding.EQUAL, "it is deleted at the source and in the copy")
    assert explanation.finding is Finding.EQUAL


def test_a_field_that_differs_although_its_entities_are_equal_is_different() -> None:
    total = {"stock": {"available": 3, "by_warehouse": {"W1": {"on_hand": 2}, "W2": {"on_hand": 0}}}}
    right = {"stock": {**total["stock"], "available": 2}}
    entities = {
        name: SourceEntity("warehouse", "warehouse", "warehouse.stock", SourceRow(5, NOON), name)
        for name in ("stock:W1:SKU-1", "stock:W2:SKU-1")
    }
    explanation = explain(
        facts(
            records=dict.fromkeys(entities, record(5)),
            entities=entities,
            fields=FIELDS.of("SKU-1", total),
            source_fields=FIELDS.of("SKU-1", right),
        )
    )
    assert explanation.finding is Finding.DIFFERENT
    assert explanation.because == "stock.available: not what the sources make of it"


def test_a_document_that_was_never_seen() -> None:
    nothing = facts(is_known=False, is_hidden=None, records={}, entities={}, fields={}, source_fields={})
    explanation = explain(nothing)
    assert (explanation.finding, explanation.because) == (Finding.EQUAL, "products has never seen it")

    there = explain(facts(is_known=False, is_hidden=None, records={}, fields={}, fresh_until=None))
    assert there.finding is Finding.BEHIND
    assert there.because.startswith(
        f"products has never seen it: {PRICE}: the source has version 7, the copy none; catalog_search is not"
    )


@pytest.mark.parametrize(
    ("is_hidden", "because"),
    [(True, "it is hidden and should be shown"), (False, "it is shown and should be hidden")],
)
def test_hidden_for_no_reason_is_different(*, is_hidden: bool, because: str) -> None:
    explanation = explain(facts(is_hidden=is_hidden, should_be_hidden=not is_hidden))
    assert (explanation.finding, explanation.because) == (Finding.DIFFERENT, because)


def test_one_field_is_explained_with_its_entities_alone() -> None:
    found = with_price_row(NEWER, quarantine=[quarantined(9), quarantined(5, entity=PRODUCT)])
    explanation = explain(found)
    of_price = explanation.of_field("prices.EUR.list_e4")
    assert [field.field for field in of_price.fields] == ["prices.EUR.list_e4"]
    assert [entity.entity for entity in of_price.entities] == [PRICE]
    assert [waiting.entity for waiting in of_price.quarantine] == [PRICE]
    assert of_price.finding is Finding.BEHIND
    assert len(explanation.of_field("prices.EUR").fields) == 2
    assert explanation.of_field("name").finding is Finding.EQUAL
    assert explanation.of_field("prices.E").fields == ()


def test_waiting_changes_are_told_of_their_entity() -> None:
    found = with_price_row(
        NEWER,
        quarantine=[quarantined(8)],
        unpublished=[Unpublished("pricing.outbox", "e", "price", PRICE, 9, LATER)],
    )
    [entity] = [each for each in explain(found).entities if each.entity == PRICE]
    assert entity.waiting == (
        "version 8 waits in quarantine (entry 3, open): a rule",
        "version 9 waits in pricing.outbox",
    )


def test_every_field_of_a_document_has_an_owner_and_a_rule() -> None:
    shape = SearchDocument()
    document = shape.empty("SKU-1")
    rows = {"product": product(), "price": price(), "stock": stock()}
    messages = [change_message(entity_type, row) for entity_type, row in rows.items()]
    for part in Transform(SEARCH)([change_of(message) for message in messages]):
        shape.put(document, part)  # type: ignore[arg-type]
    shape.add_up(document)
    fields = FIELDS.of("SKU-1", document)
    assert {field.owner for field in fields.values()} == {"catalog", "pricing", "warehouse"}
    assert not [path for path, field in fields.items() if field.rule == "no rule makes this field"]
    strange = FIELDS.of("SKU-1", {**document, "colour": "red"})["colour"]
    assert (strange.owner, strange.rule, strange.entities) == ("nobody", "no rule makes this field", ())
