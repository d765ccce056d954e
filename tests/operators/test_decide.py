"""Deciding a set of parts: nothing is told that is not in the copy, and nothing is left out but by a stop."""

import pytest

from operators.calls import do
from operators.decide import Decide
from operators.deliver import Deliver
from syncline.model.decision import Decision, Stamps
from syncline.model.document import CLOCK_TICKS_PER_MS
from syncline.model.errors import Invalid, Postponed, Refused
from syncline.policies.search_document import SearchDocument
from tests.changes import NOON_US, SEARCH, price_part, product_part, stock_part
from tests.memory_store import Crash, Fault
from tests.operators.apply_step import Bench, decisions
from tests.operators.simulation import NoWait


def test_a_new_document_is_created_without_a_read(bench: Bench) -> None:
    decided, undecided = bench.apply([product_part(1, is_first=True)])

    assert decisions(decided) == [("product:SKU-1", 1, Decision.APPLIED)]
    assert undecided == []
    assert bench.store.reads == []
    assert bench.store.document("SKU-1")["name"] == "Kettle"


def test_what_is_no_first_change_is_read_first(bench: Bench) -> None:
    bench.apply([product_part(7)])

    assert bench.store.reads == [["SKU-1"]]


def test_a_document_that_was_not_new_after_all_is_read_and_merged(bench: Bench) -> None:
    bench.seed(price_part(1), product_part(3, name="Newer"))

    decided, _ = bench.apply([product_part(1, is_first=True), stock_part(1, is_first=True)])

    assert sorted(decisions(decided)) == [
        ("product:SKU-1", 1, Decision.SUPERSEDED),
        ("stock:W1:SKU-1", 1, Decision.APPLIED),
    ]
    document = bench.store.document("SKU-1")
    assert (document["name"], list(document["prices"])) == ("Newer", ["EUR"])
    assert bench.store.reads == [["SKU-1"]]


def test_all_parts_of_a_document_go_in_one_write_and_all_documents_in_one_call(bench: Bench) -> None:
    parts = [product_part(), price_part(), stock_part(), product_part(sku="SKU-2"), product_part(2)]

    bench.apply(parts)

    assert [[write.document_id for write in call] for call in bench.store.writes] == [["SKU-1", "SKU-2"]]


def test_nothing_is_written_where_the_copy_says_it_all(bench: Bench) -> None:
    bench.seed(product_part(5))

    decided, _ = bench.apply([product_part(5), product_part(4)])

    assert decisions(decided) == [
        ("product:SKU-1", 5, Decision.DUPLICATE),
        ("product:SKU-1", 4, Decision.SUPERSEDED),
    ]
    assert bench.store.writes == []


def test_a_rival_s_write_in_between_is_read_and_kept(bench: Bench) -> None:
    def write_in_between() -> None:
        bench.store.before_write = lambda: None
        bench.seed(price_part(9))

    bench.apply([product_part(1)])
    bench.store.before_write = write_in_between
    decided, _ = bench.apply([stock_part(1), price_part(8)])

    assert sorted(decisions(decided)) == [
        ("price:EUR:SKU-1", 8, Decision.SUPERSEDED),
        ("stock:W1:SKU-1", 1, Decision.APPLIED),
    ]
    document = bench.store.document("SKU-1")
    assert document["_sync"]["entities"]["price:EUR:SKU-1"]["version"] == [1, 9, 0, 0]
    assert document["stock"]["on_hand"] == 10
    assert document["name"] == "Kettle"


def test_an_invalid_change_fails_and_the_next_best_one_stands(bench: Bench) -> None:
    invalid = price_part(3, list_amount="-1")

    decided, _ = bench.apply([price_part(1), invalid, price_part(2), product_part(1)])

    (failure,) = decided.failures
    assert isinstance(failure.error, Invalid)
    assert (failure.step, failure.change, failure.message) == (
        "apply",
        invalid.change,
        invalid.change.message,
    )
    assert sorted(decisions(decided)) == [
        ("price:EUR:SKU-1", 1, Decision.SUPERSEDED),
        ("price:EUR:SKU-1", 2, Decision.APPLIED),
        ("product:SKU-1", 1, Decision.APPLIED),
    ]


def test_an_invalid_change_that_is_superseded_bothers_nobody(bench: Bench) -> None:
    bench.seed(price_part(4))

    decided, _ = bench.apply([price_part(3, list_amount="-1")])

    assert decisions(decided) == [("price:EUR:SKU-1", 3, Decision.SUPERSEDED)]
    assert decided.failures == []


def test_of_a_refused_document_only_the_part_at_fault_fails(bench: Bench) -> None:
    refused = price_part(3, list_amount="666")

    decided, _ = bench.apply([product_part(1), refused, price_part(2), stock_part(1)])

    (failure,) = decided.failures
    assert failure.change == refused.change
    assert isinstance(failure.error, Refused)
    assert str(failure.error) == "no such price"
    assert sorted(decisions(decided)) == [
        ("price:EUR:SKU-1", 2, Decision.APPLIED),
        ("product:SKU-1", 1, Decision.APPLIED),
        ("stock:W1:SKU-1", 1, Decision.APPLIED),
    ]


def test_all_parts_of_a_document_that_is_locked_are_postponed_and_others_go_on(bench: Bench) -> None:
    bench.seed(product_part(1))
    bench.store.locked["SKU-1"] = 100
    parts = [product_part(2), product_part(3), price_part(1), product_part(1)]

    decided, undecided = bench.apply([*parts, product_part(1, sku="SKU-2")])

    assert [failure.change for failure in decided.postponed] == [part.change for part in parts]
    assert {(failure.step, type(failure.error)) for failure in decided.postponed} == {("apply", Postponed)}
    assert decisions(decided) == [("product:SKU-2", 1, Decision.APPLIED)]
    assert (decided.failures, undecided) == ([], [])
    assert bench.store.document("SKU-1")["_sync"]["entities"]["product:SKU-1"]["version"] == [1, 1, 0, 0]


def test_what_the_copy_has_already_needs_no_lock(bench: Bench) -> None:
    bench.seed(product_part(2))
    bench.store.locked["SKU-1"] = 100

    decided, _ = bench.apply([product_part(2), product_part(1)])

    assert [decision for _, _, decision in decisions(decided)] == [Decision.DUPLICATE, Decision.SUPERSEDED]
    assert decided.postponed == []


def test_two_refused_parts_are_both_found(bench: Bench) -> None:
    refused = [price_part(3, list_amount="666"), stock_part(3, on_hand=666)]

    decided, _ = bench.apply([*refused, product_part(1)])

    assert {failure.change.entity.type for failure in decided.failures if failure.change} == {
        "price",
        "stock",
    }
    assert decisions(decided) == [("product:SKU-1", 1, Decision.APPLIED)]


def test_a_document_of_which_nothing_is_acceptable_does_not_come_to_be(bench: Bench) -> None:
    decided, _ = bench.apply([price_part(3, list_amount="666"), price_part(2, list_amount="-1")])

    assert len(decided.failures) == 2
    assert bench.store.documents == {}


def test_a_conflict_is_told_beside_the_decision(bench: Bench) -> None:
    parts = sorted(
        [stock_part(5, on_hand=1, reserved=0), stock_part(5, on_hand=2, reserved=0)],
        key=lambda part: part.rank,
    )

    decided, _ = bench.apply(parts)

    assert decisions(decided) == [
        ("stock:W1:SKU-1", 5, Decision.APPLIED),
        ("stock:W1:SKU-1", 5, Decision.REJECTED),
    ]
    (conflict,) = decided.conflicts
    assert conflict.arrived.content_hash == parts[0].change.content_hash
    assert not conflict.won


def test_a_deleted_product_leaves_its_version_and_a_late_price_does_not_show_it(bench: Bench) -> None:
    bench.apply([product_part(1, is_first=True)])
    bench.apply([product_part(1, "delete")])
    bench.apply([product_part(1), price_part(1)])

    document = bench.store.document("SKU-1")
    assert document["_sync"]["hidden"] is True
    assert "name" not in document
    assert document["_sync"]["entities"]["product:SKU-1"]["version"] == [1, 1, 1, 0]


def test_the_clock_of_a_document_grows_even_when_the_wall_clock_goes_back(bench: Bench) -> None:
    versions = []
    for row_version, now_us in (
        (1, NOON_US),
        (2, NOON_US),
        (3, NOON_US - 60_000_000),
        (4, NOON_US + 1_000),
    ):
        bench.clock.now_us = now_us
        decided, _ = bench.apply([product_part(row_version)])
        (applied,) = decided.applied
        assert applied.document_version == bench.store.document("SKU-1")["_sync"]["version"]
        versions.append(applied.document_version)

    start = NOON_US // 1_000 * CLOCK_TICKS_PER_MS
    assert versions == [start, start + 1, start + 2, start + CLOCK_TICKS_PER_MS]


def test_the_copy_says_where_each_part_came_from(bench: Bench) -> None:
    part = product_part(7)
    bench.clock.advance(5)

    bench.apply([part])

    assert bench.store.document("SKU-1")["_sync"]["entities"] == {
        "product:SKU-1": {
            "version": [1, 7, 0, 0],
            "hash": part.change.content_hash,
            "event_id": part.change.event_id,
            "origin": "syncline.catalog.product/0@0",
            "committed_at_us": part.change.committed_at_us,
            "synced_at_us": NOON_US + 5,
        }
    }


def test_stamps_follow_the_parts_of_the_step(bench: Bench) -> None:
    times = iter([10, 20, 21, 24, 30, 40])
    deliver = Deliver(bench.store, 0, NoWait().circuit)

    decided, _ = do(Decide(SearchDocument(), SEARCH.rules, deliver, lambda: next(times))([product_part()]))

    (applied,) = decided.applied
    loading, resolving, validating = 20 - 10, 24 - 21, 30 - 24
    assert applied.stamps == Stamps(10, 10 + loading + resolving, 10 + loading + resolving + validating, 40)


def test_of_many_documents_each_is_told_by_itself_with_the_stamps_of_all(bench: Bench) -> None:
    skus = [f"SKU-{number}" for number in range(100)]
    parts = [part for sku in skus for part in (product_part(sku=sku), price_part(sku=sku))]

    decided, undecided = bench.apply(reversed(parts))

    assert undecided == []
    assert bench.written == [list(reversed(skus))]
    assert [applied.document_id for applied in decided.applied] == list(reversed(skus))
    assert len({applied.stamps for applied in decided.applied}) == 1
    for applied in decided.applied:
        assert {verdict.part.entity for verdict in applied.verdicts} == {
            f"product:{applied.document_id}",
            f"price:EUR:{applied.document_id}",
        }
        assert applied.document_version == bench.store.document(applied.document_id)["_sync"]["version"]


def test_of_many_documents_each_is_told_when_it_was_written_and_no_sooner(bench: Bench) -> None:
    """A rival writes some of them first, the store refuses others, and the rest go through at once."""
    skus = [f"SKU-{number}" for number in range(60)]
    by_rival, refused = skus[::3], skus[1::3]

    def write_in_between() -> None:
        bench.store.before_write = lambda: None
        bench.seed(*[stock_part(9, sku=sku) for sku in by_rival])

    bench.store.before_write = write_in_between
    prices = {sku: price_part(sku=sku, list_amount="666" if sku in refused else "1") for sku in skus}
    decided, _ = bench.apply([part for sku in skus for part in (prices[sku], product_part(sku=sku))])

    told = [applied.document_id for applied in decided.applied]
    assert sorted(told) == sorted(skus)
    assert set(told[:20]) == set(skus) - set(by_rival) - set(refused)
    assert sorted(failure.change.entity.id for failure in decided.failures if failure.change) == sorted(
        f"EUR:{sku}" for sku in refused
    )
    assert all(bench.store.document(sku)["stock"]["on_hand"] == 10 for sku in by_rival)
    assert all(("EUR" in bench.store.document(sku)["prices"]) == (sku not in refused) for sku in skus)


def test_what_stood_in_a_part_s_place_is_told(bench: Bench) -> None:
    bench.seed(product_part(1, category="garden"))

    decided, _ = bench.apply([product_part(3, category="kitchen"), product_part(2), price_part(1)])

    replaced = {
        (verdict.part.entity, verdict.part.version.row): verdict.replaced
        for applied in decided.applied
        for verdict in applied.verdicts
    }
    assert replaced == {
        ("product:SKU-1", 3): product_part(1, category="garden").body,
        ("product:SKU-1", 2): None,
        ("price:EUR:SKU-1", 1): None,
    }


def test_a_conflict_is_told_once_however_often_the_write_was_turned_away(bench: Bench) -> None:
    rounds = iter(range(1, 4))

    def write_in_between() -> None:
        if depth == [] and (row_version := next(rounds, None)) is not None:
            depth.append(row_version)
            deliver = Deliver(bench.store, 0, NoWait().circuit)
            do(Decide(SearchDocument(), SEARCH.rules, deliver, bench.clock)([price_part(row_version)]))
            depth.clear()

    depth: list[int] = []
    bench.store.before_write = write_in_between
    decided, _ = bench.apply([stock_part(5, on_hand=10), stock_part(5, on_hand=11)])

    assert next(rounds, None) is None
    assert len(decided.conflicts) == 1
    assert sorted(decision for _, _, decision in decisions(decided)) == [Decision.APPLIED, Decision.REJECTED]


def test_a_stop_leaves_undecided_what_the_store_did_not_take(bench: Bench) -> None:
    bench.store.write_faults.append(Fault.UNAVAILABLE)
    bench.stop.request()
    invalid, good = price_part(3, list_amount="-1"), product_part(1)

    decided, undecided = bench.apply([invalid, good])

    assert [failure.change for failure in decided.failures] == [invalid.change]
    assert undecided == [good]


def test_a_crash_tells_nothing(bench: Bench) -> None:
    bench.store.write_faults.append(Fault.CRASH_AFTER_WRITE)

    with pytest.raises(Crash):
        bench.apply([product_part(1)])


def test_a_document_that_cannot_be_written_as_json_is_the_fault_of_one_part(bench: Bench) -> None:
    """What the change's own JSON can hold may be too deep a few levels further down in a document."""
    deep: object = "x"
    for _ in range(300):
        deep = {"a": deep}
    part = product_part(1)

    decided, undecided = bench.apply([stock_part(1), part._replace(body={**(part.body or {}), "tags": deep})])

    assert undecided == []
    assert [str(failure.error) for failure in decided.failures] == [
        "the document is no JSON: Recursion limit reached"
    ]
    assert bench.store.document("SKU-1")["stock"]["on_hand"] == 10
