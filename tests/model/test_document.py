"""What a document says of itself: its clock, whether it shows, and the version of each entity in it."""

from hypothesis import given
from hypothesis import strategies as st

from syncline.model.decision import Decision, Known, Verdict
from syncline.model.document import (
    CLOCK_TICKS_PER_MS,
    first_synced_at_us,
    known,
    listed,
    merge,
    tick,
)
from syncline.policies.search_document import SearchDocument
from tests.changes import NOON_US, price_part, product_part

shape = SearchDocument()


@given(st.lists(st.integers(0, 2 * NOON_US), min_size=2))
def test_the_clock_grows_with_every_write_whatever_the_wall_clock_says(times_us: list[int]) -> None:
    document = shape.empty("SKU-1")

    versions = [tick(shape, document, now_us) for now_us in times_us]

    assert versions == sorted(set(versions))
    assert document["_sync"]["version"] == versions[-1]


def test_the_clock_stays_with_the_wall_clock_where_that_moves_on() -> None:
    document = shape.empty("SKU-1")

    tick(shape, document, NOON_US)

    assert tick(shape, document, NOON_US + 5_000) == (NOON_US // 1_000 + 5) * CLOCK_TICKS_PER_MS


def test_a_thousand_writes_in_one_millisecond_do_not_run_ahead_of_it() -> None:
    document = shape.empty("SKU-1")

    for _ in range(1_000):
        tick(shape, document, NOON_US)

    assert document["_sync"]["version"] < (NOON_US // 1_000 + 1) * CLOCK_TICKS_PER_MS


def test_a_tick_tells_whether_the_document_shows() -> None:
    document = shape.empty("SKU-1")
    assert document["_sync"]["hidden"] is True
    merge(shape, document, price_part(), NOON_US)
    tick(shape, document, NOON_US)
    assert document["_sync"]["hidden"] is True
    merge(shape, document, product_part(), NOON_US)
    tick(shape, document, NOON_US)
    assert document["_sync"]["hidden"] is False


def test_a_document_knows_each_entity_that_ever_was_in_it() -> None:
    document = shape.empty("SKU-1")
    part = price_part(3, "delete")

    assert known(document, part.entity) is None
    merge(shape, document, part, NOON_US)

    position = part.change.message.position
    assert known(document, part.entity) == Known(part.version, part.change.content_hash, position)
    assert document["prices"] == {}


def test_a_document_knows_since_when_each_entity_is_in_it() -> None:
    document = shape.empty("SKU-1")
    since = []

    for now_us, op in enumerate(["upsert", "upsert", "upsert", "delete", "upsert", "upsert"]):
        part = price_part(now_us + 1, op)
        merge(shape, document, part, now_us)
        since.append(first_synced_at_us(document["_sync"]["entities"][part.entity]))

    assert since == [0, 0, 0, 0, 4, 4]


def put_categories(*categories: str | None) -> list[str]:
    """What the product is remembered to have been listed under, when it was written with each of these in
    turn."""
    document = shape.empty("SKU-1")
    for version, category in enumerate(categories, start=1):
        op = "delete" if category == "deleted" else "upsert"
        part = product_part(version, op) if op == "delete" else product_part(version, category=category)
        merge(shape, document, part, NOON_US)
    formerly: dict[str, list[str]] = document["_sync"]["entities"]["product:SKU-1"].get("formerly", {})
    return formerly.get("category", [])


def test_a_document_remembers_what_it_was_listed_under_only_where_that_differs() -> None:
    assert put_categories("tea", "tea") == []
    assert put_categories("tea", "garden") == ["tea"]
    assert put_categories("tea", None) == ["tea"]
    assert put_categories(None, "tea") == []
    assert put_categories("tea", "deleted") == ["tea"]


def test_it_remembers_that_over_writes_that_change_something_else() -> None:
    """All of them may have been written before the flow died; the first that comes again is not the last."""
    assert put_categories("tea", "garden", "garden", "garden") == ["tea"]
    assert put_categories("tea", "deleted", "garden") == ["tea"]


def test_it_remembers_a_few_values_the_newest_first() -> None:
    assert put_categories("a", "b", "a") == ["b"]
    assert put_categories(*"abcdefgh") == ["g", "f", "e", "d"]


def test_what_changes_came_again_for_is_listed_also_under_what_it_was() -> None:
    document = shape.empty("SKU-1")
    first, second = product_part(1, category="tea"), product_part(2, category="garden")
    for part in (first, second):
        merge(shape, document, part, NOON_US)

    assert listed(shape, document, [Verdict(second, Decision.APPLIED)]) == {"category": ["garden"]}
    for decision in (Decision.DUPLICATE, Decision.SUPERSEDED):
        assert listed(shape, document, [Verdict(second, decision)]) == {"category": ["garden", "tea"]}
