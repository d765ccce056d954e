"""What the shop writes next: decided by chance from a seed, without a clock or a database.

The same seed, mix and start give the same transactions in the same order. Each belongs to a lane;
lanes may run side by side, and the transactions of one entity all share a lane, so what the database
holds in the end does not depend on timing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

from syncline.model.errors import Misconfigured
from syncline.services import assortment

CATALOG_LANE = "catalog"
PRICING_LANE = "pricing"
WAREHOUSE_LANES = ("warehouse:1", "warehouse:2", "warehouse:3")
"""Stock is most of the traffic. All transactions of one warehouse share a lane."""
LANES = (CATALOG_LANE, PRICING_LANE, *WAREHOUSE_LANES)
FEWEST_PRODUCTS = 10
"""With fewer than these a shop first gets new ones."""
KINDS = ("order", "sale", "shipment", "delivery", "reprice", "edit", "launch", "discontinue", "relaunch")
_PRICES_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Statement(NamedTuple):
    """One statement of ``lanes.STATEMENTS`` with its rows; no two rows have the same key."""

    name: str
    entity: str
    op: str
    rows: tuple[dict[str, Any], ...]


class Transaction(NamedTuple):
    """Statements that are committed together, by one service."""

    lane: str
    statements: tuple[Statement, ...]
    writer: str | None = None
    """Which service, where several write one schema."""

    @property
    def service(self) -> str:
        return self.writer or schema_of(self.lane)

    @property
    def size(self) -> int:
        """How many changes it makes where every row that it names exists."""
        return sum(len(statement.rows) for statement in self.statements)


@dataclass(frozen=True)
class Mix:
    """How often each kind of thing happens, as weights, and how it looks."""

    order: float = 38
    """Reserves 1 to ``largest_order`` products in one warehouse."""
    sale: float = 12
    """Reserves and ships them in the same transaction: two changes of each row."""
    shipment: float = 14
    """Ships what was reserved of one product."""
    delivery: float = 10
    """Goods arrive for 1 to ``largest_order`` products."""
    reprice: float = 12
    """All prices of one product, in each of its currencies."""
    edit: float = 10
    """One product's texts, tags, attributes or status."""
    launch: float = 1.0
    """A new product, its prices and its stock: one transaction for each service and warehouse."""
    discontinue: float = 0.9
    """A product is deleted; every other time its prices and stock are, too."""
    relaunch: float = 0.5
    """A deleted product comes back."""

    skew: float = 0.9
    """Exponent of the Zipf law by which products are chosen; 0 is even, 1 gives each tenfold of ranks as
    many changes as the next."""
    largest_order: int = 4
    currencies: tuple[str, ...] = ("EUR", "USD", "GBP")
    """A product has a price in the first, and perhaps in others."""
    warehouses: tuple[str, ...] = ("W1", "W2", "W3")
    """A product lies in one of them or in several."""

    def __post_init__(self) -> None:
        weights = [getattr(self, kind) for kind in KINDS]
        if min(weights) < 0 or sum(weights) == 0:
            raise Misconfigured("The weights of a mix are zero or more, and one of them is more than zero.")
        if not self.currencies or not self.warehouses or self.largest_order < 1 or self.skew < 0:
            raise Misconfigured(
                "A mix takes a currency, a warehouse, an order of 1 or more, and no negative skew."
            )


class Offer(NamedTuple):
    """Where a product has prices and stock."""

    currencies: tuple[str, ...]
    warehouses: tuple[str, ...]


@dataclass
class Workload:
    """Keeps track of the products that there are, and makes up what happens to them."""

    random: Random
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        self._skus: list[str] = []  # by popularity
        self._offers: dict[str, Offer] = {}
        self._gone: list[str] = []
        self._next_number = 1
        self._lane_of_warehouse: dict[str, str] = {}

    def know(self, offers: Iterable[tuple[str, Offer]]) -> None:
        """Start from products that exist already."""
        for sku, offer in offers:
            self._add(sku, offer)
            prefix, _, number = sku.partition("-")
            if prefix == "SKU" and number.isdecimal():
                self._next_number = max(self._next_number, int(number) + 1)

    def transactions(self) -> Iterator[Transaction]:
        """What happens next, without end."""
        happenings = (
            self._order,
            self._sale,
            self._shipment,
            self._delivery,
            self._reprice,
            self._edit,
            self.launch,
            self._discontinue,
            self._relaunch,
        )
        weights = [getattr(self.mix, kind) for kind in KINDS]
        while True:
            if len(self._skus) < FEWEST_PRODUCTS:
                yield from self.launch()
            else:
                yield from self.random.choices(happenings, weights)[0]()

    def launch(self) -> list[Transaction]:
        """A new product, with its prices and its stock."""
        sku = f"SKU-{self._next_number:06d}"
        self._next_number += 1
        return self._put(sku)

    def _put(self, sku: str) -> list[Transaction]:
        offer = self._offers.get(sku) or self._offer()
        self._add(sku, offer)
        stock = [self._put_stock(warehouse, sku) for warehouse in offer.warehouses]
        product = Statement("put_product", "product", "upsert", (assortment.product(self.random, sku),))
        return [Transaction(CATALOG_LANE, (product,)), self._prices(sku, offer.currencies), *stock]

    def _discontinue(self) -> list[Transaction]:
        position = self.random.randrange(len(self._skus))
        self._skus[position], self._skus[-1] = self._skus[-1], self._skus[position]
        sku = self._skus.pop()
        offer = self._offers[sku]
        self._gone.append(sku)
        gone = [
            Transaction(CATALOG_LANE, (Statement("delete_product", "product", "delete", ({"sku": sku},)),))
        ]
        if self.random.random() < 0.5:
            prices = tuple({"sku": sku, "currency": currency} for currency in offer.currencies)
            gone.append(Transaction(PRICING_LANE, (Statement("delete_price", "price", "delete", prices),)))
            for warehouse in offer.warehouses:
                row = {"warehouse_id": warehouse, "sku": sku}
                gone.append(
                    self._in_warehouse(warehouse, Statement("delete_stock", "stock", "delete", (row,)))
                )
        return gone

    def _relaunch(self) -> list[Transaction]:
        if not self._gone:
            return self.launch()
        return self._put(self._gone.pop(self.random.randrange(len(self._gone))))

    def _edit(self) -> list[Transaction]:
        change = assortment.edit(self.random, self._popular())
        return [Transaction(CATALOG_LANE, (Statement("edit_product", "product", "upsert", (change,)),))]

    def _reprice(self) -> list[Transaction]:
        sku = self._popular()
        offer = self._offers[sku]
        if not offer.currencies:
            offer = self._offers[sku] = offer._replace(currencies=self.mix.currencies[:1])
        return [self._prices(sku, offer.currencies)]

    def _order(self) -> list[Transaction]:
        return self._move((0, 1))

    def _sale(self) -> list[Transaction]:
        return self._move((0, 1), (-1, -1))

    def _shipment(self) -> list[Transaction]:
        quantity = self.random.randint(1, 3)
        return self._move((-quantity, -quantity), most_products=1)

    def _delivery(self) -> list[Transaction]:
        return self._move((self.random.randint(5, 50), 0))

    def _move(self, *movements: tuple[int, int], most_products: int | None = None) -> list[Transaction]:
        """Add to what is on hand and to what is reserved of some products, once for each movement."""
        first = self._popular()
        if not self._offers[first].warehouses:
            return [self._first_delivery(first)]
        warehouse = self.random.choice(self._offers[first].warehouses)
        skus = {first: None}  # in order, each once
        for _ in range(self.random.randrange(most_products or self.mix.largest_order)):
            sku = self._popular()
            if warehouse in self._offers[sku].warehouses:
                skus[sku] = None
        statements = [
            Statement(
                "move_stock", "stock", "upsert", tuple(_stock(warehouse, sku, *movement) for sku in skus)
            )
            for movement in movements
        ]
        return [self._in_warehouse(warehouse, *statements)]

    def _first_delivery(self, sku: str) -> Transaction:
        warehouse = self.mix.warehouses[0]
        self._offers[sku] = self._offers[sku]._replace(warehouses=(warehouse,))
        return self._put_stock(warehouse, sku)

    def _put_stock(self, warehouse: str, sku: str) -> Transaction:
        row = _stock(warehouse, sku, self.random.randint(5, 500), 0)
        return self._in_warehouse(warehouse, Statement("put_stock", "stock", "upsert", (row,)))

    def _prices(self, sku: str, currencies: tuple[str, ...]) -> Transaction:
        euro_cents = assortment.list_price_cents(self.random)
        is_on_sale = self.random.random() < 0.25
        begins = _PRICES_BEGIN + timedelta(days=self.random.randrange(365))
        rows = []
        for currency in currencies:
            cents = euro_cents + self.random.randrange(-20, 21) if currency != currencies[0] else euro_cents
            rows.append(
                {
                    "sku": sku,
                    "currency": currency,
                    "list_amount": _amount(cents),
                    "sale_amount": _amount(cents * 4 // 5) if is_on_sale else None,
                    "valid_from": begins.isoformat(),
                    "valid_to": (begins + timedelta(days=14)).isoformat() if is_on_sale else None,
                }
            )
        return Transaction(PRICING_LANE, (Statement("put_price", "price", "upsert", tuple(rows)),))

    def _in_warehouse(self, warehouse: str, *statements: Statement) -> Transaction:
        lane = self._lane_of_warehouse.setdefault(
            warehouse, WAREHOUSE_LANES[len(self._lane_of_warehouse) % len(WAREHOUSE_LANES)]
        )
        return Transaction(lane, statements)

    def _add(self, sku: str, offer: Offer) -> None:
        self._skus.append(sku)
        self._offers[sku] = offer

    def _offer(self) -> Offer:
        currencies = self.mix.currencies[: self.random.randint(1, len(self.mix.currencies))]
        warehouses = self.random.sample(self.mix.warehouses, self.random.randint(1, len(self.mix.warehouses)))
        return Offer(currencies, tuple(sorted(warehouses)))

    def _popular(self) -> str:
        """A product by Zipf's law: rank r has a weight of r ** -skew (its continuous form, inverted)."""
        count, skew, chance = len(self._skus), self.mix.skew, self.random.random()
        if abs(skew - 1) < 1e-9:
            rank = (count + 1) ** chance
        else:
            rank = (1 + chance * ((count + 1) ** (1 - skew) - 1)) ** (1 / (1 - skew))
        return self._skus[min(int(rank), count) - 1]


def merged(transactions: Iterable[Transaction]) -> list[Transaction]:
    """The same rows in one statement and transaction for each kind and lane."""
    rows: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for transaction in transactions:
        for name, entity, op, given in transaction.statements:
            rows.setdefault((transaction.lane, name, entity, op), []).extend(given)
    return [
        Transaction(lane, (Statement(name, entity, op, tuple(given)),))
        for (lane, name, entity, op), given in rows.items()
    ]


def schema_of(lane: str) -> str:
    return lane.partition(":")[0]


def _stock(warehouse: str, sku: str, on_hand: int, reserved: int) -> dict[str, Any]:
    return {"warehouse_id": warehouse, "sku": sku, "on_hand": on_hand, "reserved": reserved}


def _amount(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"
