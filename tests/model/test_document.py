"""What a document says of itself: its clock, whether it shows, and the version of each entity in it."""

from hypothesis import given
from hypothesis import strategies as st

from syncline.model.decision import Known
from syncline.model.document import CLOCK_TICKS_PER_MS, first_synced_at_us, known, merge, tick
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
