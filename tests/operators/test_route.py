"""What a flow has not subscribed to is dropped; watermarks always pass."""

from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import input as op_input
from bytewax.operators import output
from bytewax.testing import TestingSink, TestingSource, run_main

from operators.route import route
from syncline.model.change import Change, Watermark
from syncline.policies.ownership import SEARCH_ENTITIES
from syncline.policies.subscriptions import CATALOG_SEARCH, Subscription
from tests.changes import change_message, change_of, price, product, stock

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
    return Subscription(tuple(policy for policy in SEARCH_ENTITIES if policy.type in types))


def test_a_flow_gets_the_entities_that_it_has_subscribed_to_in_order() -> None:
    assert routed(wanting("stock", "product")) == [CHANGES[0], CHANGES[2], MARK]


def test_watermarks_pass_even_where_nothing_is_wanted() -> None:
    assert routed(wanting()) == [MARK]


def test_catalog_search_wants_all_three_owners() -> None:
    assert routed(CATALOG_SEARCH) == [*CHANGES, MARK]
