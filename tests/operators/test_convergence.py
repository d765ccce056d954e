"""The property that the project stands on: whatever the order, the copy ends the same.

Histories are generated: several entities of a few documents, with deletes, re-creations, duplicates,
conflicts, generations, corrections, changes that break a rule and changes that the store refuses. They
are delivered in any order and in any batches, by one process or by two rivals that own the same
documents, through time-outs, refusals, locks, crashes and restarts behind the copy, while crews overtake each
other in the background. What is postponed comes back later, after newer changes too, or never. The documents
must equal those of a plain reference: of each entity, the highest change that came, is valid and acceptable.

``SYNCLINE_HISTORIES=200000 pytest tests/operators/test_convergence.py`` looks deeper.
"""

import os
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncline.model.document import Document
from syncline.model.part import Part
from syncline.policies.search_document import SearchDocument
from tests.changes import SEARCH, change_message, part_of, price, product, stock
from tests.memory_store import MemoryStore
from tests.operators.delivering import IN_ORDER, Delivering, Delivery, deliveries
from tests.operators.simulation import Copy

HISTORIES = int(os.environ.get("SYNCLINE_HISTORIES", "2500"))

pytestmark = pytest.mark.timeout(max(180, HISTORIES // 5))

SKUS = ("A", "B", "C", "D")
"""The first and the third are one crew's, in lanes of their own; the others have crews of their own."""
INVALID = 3
REFUSED = 4
"""Contents 0 to 2 are good, 3 breaks a rule, 4 is refused by the store."""
REFUSED_TEXT, REFUSED_NUMBER = "refused", 6_660_000


class Spec(NamedTuple):
    """One change of a history."""

    sku: int
    entity: int
    row_version: int
    is_delete: bool
    content: int
    is_first: bool
    generation: int
    correction: int

    @property
    def never_stands(self) -> bool:
        return not self.is_delete and self.content in {INVALID, REFUSED}


def _product_row(sku: str, content: int) -> dict[str, object]:
    names = ("Kettle", "Pot", "Pan 😀", " ", REFUSED_TEXT)
    return product(sku, name=names[content], attributes={"colour": content})


def _price_row(sku: str, currency: str, content: int) -> dict[str, object]:
    amounts = ("1", "12.90", "0", "5", "666")
    return price(sku, currency, list_amount=amounts[content], sale_amount="9" if content == INVALID else None)


def _stock_row(sku: str, warehouse: str, content: int) -> dict[str, object]:
    reserved = 99 if content == INVALID else 1
    return stock(
        sku, warehouse, on_hand=REFUSED_NUMBER if content == REFUSED else 10 + content, reserved=reserved
    )


ENTITIES: tuple[tuple[str, Callable[[str, int], dict[str, object]]], ...] = (
    ("product", _product_row),
    ("price", lambda sku, content: _price_row(sku, "EUR", content)),
    ("price", lambda sku, content: _price_row(sku, "USD", content)),
    ("stock", lambda sku, content: _stock_row(sku, "W1", content)),
    ("stock", lambda sku, content: _stock_row(sku, "W2", content)),
)


@cache
def part(spec: Spec) -> Part:
    """Through the real decode and transform; one part for each spec, as one event is one message."""
    entity_type, row = ENTITIES[spec.entity]
    message = change_message(
        entity_type,
        row(SKUS[spec.sku], spec.content),
        spec.row_version,
        "delete" if spec.is_delete else "upsert",
        is_first=spec.is_first,
        headers=[("generation", str(spec.generation).encode())],
    )
    made = part_of(message)
    version = made.change.version._replace(correction=spec.correction)
    return made._replace(change=made.change._replace(version=version))


def refuses(document: Document) -> str | None:
    """What no part may bring into the store."""
    if document.get("name") == REFUSED_TEXT:
        return "name"
    if any(each["list_e4"] == REFUSED_NUMBER for each in document["prices"].values()):
        return "price"
    if any(each["on_hand"] == REFUSED_NUMBER for each in document["stock"]["by_warehouse"].values()):
        return "stock"
    return None


def reference(history: Iterable[Spec]) -> dict[str, Document]:
    """The documents as they must end, computed without the code under test."""
    winners: dict[tuple[int, int], Part] = {}
    for spec in history:
        if spec.never_stands:
            continue
        challenger, key = part(spec), (spec.sku, spec.entity)
        if key not in winners or challenger.rank > winners[key].rank:
            winners[key] = challenger
    documents: dict[str, Document] = {}
    for (sku, entity), winner in sorted(winners.items()):
        document = documents.setdefault(
            SKUS[sku], {"sku": SKUS[sku], "prices": {}, "warehouses": {}, "hidden": True, "entities": {}}
        )
        document["entities"][winner.entity] = (list(winner.version), winner.change.content_hash)
        if winner.change.op == "delete":
            continue
        if ENTITIES[entity][0] == "product":
            document |= {"hidden": False, "product": winner.body}
        else:
            section = "prices" if ENTITIES[entity][0] == "price" else "warehouses"
            document[section][winner.slot] = winner.body
    return documents


def plain(store: MemoryStore) -> dict[str, Document]:
    """The store's documents in the shape of the reference, without clocks, times and event ids.

    Nor what they were listed under before (``formerly``): through which states a document went is the
    doing of the delivery.
    """
    return {sku: _plain(orjson.loads(stored.body)) for sku, stored in store.documents.items()}


def _plain(document: Document) -> Document:
    sync, stock_section = document.pop("_sync"), document.pop("stock")
    warehouses = stock_section.pop("by_warehouse")
    on_hand = sum(each["on_hand"] for each in warehouses.values())
    reserved = sum(each["reserved"] for each in warehouses.values())
    available = on_hand - reserved
    assert stock_section == {
        "on_hand": on_hand,
        "reserved": reserved,
        "available": available,
        "in_stock": available > 0,
    }
    outcome = {
        "sku": document.pop("sku"),
        "prices": document.pop("prices"),
        "warehouses": warehouses,
        "hidden": sync["hidden"],
        "entities": {entity: (said["version"], said["hash"]) for entity, said in sync["entities"].items()},
    }
    return {**outcome, "product": document} if document else outcome


def never_stands(part: Part) -> bool:
    """Whether the part breaks a rule or is refused: only those may fail."""
    body = part.body or {}
    return (
        body.get("name") in {" ", REFUSED_TEXT}
        or body.get("sale_e4") == 90_000
        or body.get("list_e4") == REFUSED_NUMBER
        or body.get("reserved") == 99
        or body.get("on_hand") == REFUSED_NUMBER
    )


SEARCH_COPY = Copy(SearchDocument(), SEARCH.rules, refuses, never_stands, SEARCH.critical)

specs = st.builds(
    Spec,
    sku=st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
    entity=st.integers(0, len(ENTITIES) - 1),
    row_version=st.integers(1, 4),
    is_delete=st.sampled_from([False, False, False, True]),
    content=st.sampled_from([0, 1, 2, 0, 1, 2, INVALID, REFUSED]),
    is_first=st.booleans(),
    generation=st.sampled_from([1, 1, 1, 1, 2]),
    correction=st.sampled_from([0, 0, 0, 0, 1]),
)
histories = st.lists(specs, min_size=1, max_size=16)


@settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(history=histories, delivery=deliveries)
def test_any_delivery_of_a_history_ends_in_the_same_documents(
    history: list[Spec], delivery: Delivery
) -> None:
    parts = [part(spec) for spec in history]
    delivering = Delivering(SEARCH_COPY, parts, delivery)

    delivered = plain(delivering.run())

    left_out = delivering.left_out
    came = [spec for spec in history if (part(spec).entity, part(spec).rank) not in left_out]
    assert delivered == plain(Delivering(SEARCH_COPY, list(map(part, came)), IN_ORDER).run())
    assert delivered == reference(came)
