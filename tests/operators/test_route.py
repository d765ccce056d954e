"""What a flow has not subscribed to is dropped; watermarks always pass."""

import pytest
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import input as op_input
from bytewax.operators import output
from bytewax.testing import TestingSink, TestingSource, run_main

from operators.route import FILTERED_TOTAL, Route, route
from syncline.model.change import Change, Watermark
from syncline.policies.policy_file import FlowSection
from syncline.policies.subscriptions import Subscription, Wish
from tests.changes import SEARCH, change_message, change_of, price, product, stock

CHANGES = [
    change_of(change_message("product", product())),
    change_of(change_message("price", price())),
    change_of(change_message("stock", stock())),
]
MARK = Watermark("syncline.catalog.product", 0, 5)


def routed(subscription: Subscription) -> list[Change | Watermark]:
    out: list[list[Change | Watermark]] = []
    flow = Dataflow("routing")
    batches: list[list[Change | Watermark]] = [[CHANGES[0], CHANGES[1]], [CHANGES[2], MARK]]
    up: Stream[list[Change | Watermark]] = op_input("in", flow, TestingSource(batches))
    output("out", route("route", up, subscription), TestingSink(out))
    run_main(flow)  # type: ignore[no-untyped-call]
    assert len(out) <= len(batches)
    return [item for batch in out for item in batch]


def wanting(*types: str) -> Subscription:
    return Subscription("tests", {type_: SEARCH.subscription.wishes[type_] for type_ in types})


def test_a_flow_gets_the_entities_that_it_has_subscribed_to_in_order() -> None:
    assert routed(wanting("stock", "product")) == [CHANGES[0], CHANGES[2], MARK]


def test_watermarks_pass_even_where_nothing_is_wanted() -> None:
    assert routed(wanting()) == [MARK]


def test_catalog_search_wants_all_three_owners() -> None:
    assert routed(SEARCH.subscription) == [*CHANGES, MARK]


def test_a_row_that_does_not_meet_the_conditions_becomes_filtered() -> None:
    section = FlowSection.model_validate({"where": [{"column": "status", "one_of": ["active"]}]})
    subscription = Subscription("tests", {"product": Wish.of(section)})
    wanted, unwanted, deleted = (
        change_of(change_message("product", product(status=status), 1, op))
        for status, op in (("active", "upsert"), ("draft", "upsert"), ("draft", "delete"))
    )

    assert Route(subscription)([wanted, unwanted, deleted]) == [
        wanted,
        unwanted._replace(op="filtered"),
        deleted,
    ]


def test_an_operation_that_is_not_wanted_is_dropped_and_counted() -> None:
    wish = Wish.of(FlowSection.model_validate({"operations": ["upsert"]}))
    deleted = change_of(change_message("product", product(), 1, "delete"))
    counted = FILTERED_TOTAL.labels("uncounted", "product")
    before = counted._value.get()

    assert Route(Subscription("uncounted", {"product": wish}))([deleted, CHANGES[0], CHANGES[1]]) == [
        CHANGES[0]
    ]
    assert counted._value.get() == before + 1


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ({"column": "status", "none_of": ["draft"]}, ["active", None]),
        ({"column": "status", "present": True}, ["active", "draft"]),
        ({"column": "status", "present": False}, [None]),
    ],
)
def test_conditions(condition: dict[str, object], wanted: list[str | None]) -> None:
    wish = Wish.of(FlowSection.model_validate({"where": [condition]}))

    assert [status for status in ("active", "draft", None) if wish.is_for({"status": status})] == wanted
