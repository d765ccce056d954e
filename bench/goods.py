"""What the bench writes, made up by the shop's own workload: new products, and updates of them."""

from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random
from typing import Any

from bench.ledger import Committed, Ledger
from syncline.services import assortment
from syncline.services.workload import CATALOG_LANE, Mix, Offer, Statement, Transaction, Workload

UPDATES = Mix(launch=0, discontinue=0, relaunch=0, skew=0)
"""The shop's mix of updates, every product as likely as any other: no hot key gathers changes."""

_KINDS = {
    "stock": UPDATES.order + UPDATES.sale + UPDATES.shipment + UPDATES.delivery,
    "price": UPDATES.reprice,
    "product": UPDATES.edit,
}
"""How often each entity is updated."""


class Goods:
    """Products, their prices and their stock, in memory.

    ``keeps_rows`` off, nothing that was launched can be updated, and memory stays flat.
    """

    def __init__(self, seed: int, *, keeps_rows: bool = True) -> None:
        self.ledger = Ledger(keeps_rows=keeps_rows)
        self._keeps_rows = keeps_rows
        self._random = Random(seed)
        self._workload = Workload(self._random, UPDATES)
        self._offers: dict[str, Offer] = {}

    def launch(self) -> list[Committed]:
        """A new product: the product, its prices and its stock, five changes on average."""
        changes = list(self.ledger.commit(self._workload.launch()))
        if self._keeps_rows:
            self._offers[changes[0].sku] = Offer(
                tuple(change.row["currency"] for change in changes if change.policy.type == "price"),
                tuple(change.row["warehouse_id"] for change in changes if change.policy.type == "stock"),
            )
        return changes

    def launch_product_alone(self) -> Committed:
        """A new product without prices and stock: one change."""
        product, *_ = self._workload.launch()
        [change] = self.ledger.commit([product])
        return change

    def updates(self, count: int) -> Iterator[Committed]:
        """So many of the shop's updates of what was launched."""
        return islice(self.ledger.commit(self._workload.transactions()), count)

    def one_update_each(self, skus: Iterable[str]) -> Iterator[Committed]:
        """One change of each product: as the shop's, but never of two rows."""
        kinds, weights = tuple(_KINDS), tuple(_KINDS.values())
        for sku in skus:
            statement = self._one_row(sku, self._random.choices(kinds, weights)[0])
            yield from self.ledger.commit([Transaction(CATALOG_LANE, (statement,))])

    def shuffled_skus(self) -> list[str]:
        skus = list(self._offers)
        self._random.shuffle(skus)
        return skus

    def _one_row(self, sku: str, kind: str) -> Statement:
        offer = self._offers[sku]
        row: dict[str, Any]
        if kind == "stock":
            row = {
                "warehouse_id": self._random.choice(offer.warehouses),
                "sku": sku,
                "on_hand": 0,
                "reserved": 1,
            }
            return Statement("move_stock", kind, "upsert", (row,))
        if kind == "price":
            cents = assortment.list_price_cents(self._random)
            row = {
                "sku": sku,
                "currency": self._random.choice(offer.currencies),
                "list_amount": f"{cents / 100:.2f}",
            }
            row |= {"sale_amount": None, "valid_from": "2026-02-01T00:00:00+00:00", "valid_to": None}
            return Statement("put_price", kind, "upsert", (row,))
        return Statement("edit_product", kind, "upsert", (assortment.edit(self._random, sku),))
