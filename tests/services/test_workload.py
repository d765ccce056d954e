"""What the shop writes next, without a database."""

from collections import Counter
from itertools import islice
from random import Random

import pytest

from syncline.model.errors import Misconfigured
from syncline.services.workload import (
    FEWEST_PRODUCTS,
    KINDS,
    LANES,
    Mix,
    Offer,
    Statement,
    Transaction,
    Workload,
    merged,
)

KEYS = {"product": ("sku",), "price": ("currency", "sku"), "stock": ("warehouse_id", "sku")}


def transactions(seed: int, count: int, mix: Mix | None = None) -> list[Transaction]:
    return list(islice(Workload(Random(seed), mix or Mix()).transactions(), count))


def keys(statement: Statement) -> list[tuple[str, ...]]:
    return [tuple(row[column] for column in KEYS[statement.entity]) for row in statement.rows]


def only(kind: str, **others: object) -> Mix:
    return Mix(**{**dict.fromkeys(KINDS, 0), kind: 1, **others})  # type: ignore[arg-type]


def test_the_same_seed_writes_the_same() -> None:
    assert transactions(7, 3_000) == transactions(7, 3_000)
    assert transactions(7, 3_000) != transactions(8, 3_000)


def test_a_statement_names_no_key_twice() -> None:
    for transaction in transactions(1, 5_000):
        for statement in transaction.statements:
            assert len(set(keys(statement))) == len(statement.rows) > 0


def test_all_writes_of_an_entity_share_a_lane() -> None:
    lanes: dict[tuple[str, ...], str] = {}
    for transaction in transactions(2, 5_000):
        assert transaction.lane in LANES
        for statement in transaction.statements:
            for key in keys(statement):
                assert lanes.setdefault((statement.entity, *key), transaction.lane) == transaction.lane
    assert set(lanes.values()) == set(LANES)


def test_only_what_exists_is_edited_moved_or_deleted() -> None:
    there: set[tuple[str, ...]] = set()
    for transaction in transactions(3, 10_000):
        for statement in transaction.statements:
            named = {(statement.entity, *key) for key in keys(statement)}
            if statement.name.startswith("put"):
                there |= named
            else:
                assert named <= there
                there -= named if statement.op == "delete" else set()


def test_the_mix_has_everything_in_it_and_stock_is_the_bulk() -> None:
    sizes: Counter[str] = Counter()
    for transaction in transactions(4, 20_000):
        for statement in transaction.statements:
            sizes[statement.name] += len(statement.rows)
    assert set(sizes) == {
        "put_product", "edit_product", "delete_product", "put_price", "delete_price",
        "put_stock", "move_stock", "delete_stock",
    }  # fmt: skip
    assert sizes["move_stock"] > sizes.total() / 2
    assert any(len(transaction.statements) > 1 for transaction in transactions(4, 1_000))


def test_products_are_chosen_by_zipf_s_law() -> None:
    def edits_by_sku(skew: float) -> Counter[str]:
        workload = Workload(Random(5), only("edit", skew=skew))
        workload.know((f"SKU-{number:06d}", Offer((), ())) for number in range(1, 1_001))
        return Counter(t.statements[0].rows[0]["sku"] for t in islice(workload.transactions(), 20_000))

    even, zipf = edits_by_sku(0), edits_by_sku(1)
    assert max(even.values()) < 60
    # The continuous form of the law gives rank 1 a share of ln 2 / ln 1001, one in ten.
    assert 0.09 < zipf["SKU-000001"] / 20_000 < 0.11
    assert 0.3 < sum(zipf[f"SKU-{number:06d}"] for number in range(1, 10)) / 20_000 < 0.37


def test_an_empty_shop_first_gets_products() -> None:
    launched = {
        row["sku"] for t in transactions(6, 200, only("edit")) for s in t.statements for row in s.rows
    }
    assert len(launched) == FEWEST_PRODUCTS


def test_new_skus_come_after_those_that_exist() -> None:
    workload = Workload(Random(0), only("launch"))
    workload.know((f"SKU-{number:06d}", Offer((), ())) for number in (3, 41, 7))
    workload.know([("SKU-X", Offer((), ())), ("MINE", Offer((), ()))])
    assert workload.launch()[0].statements[0].rows[0]["sku"] == "SKU-000042"


@pytest.mark.parametrize(("kind", "name"), [("reprice", "put_price"), ("order", "put_stock")])
def test_a_product_without_price_or_stock_first_gets_one(kind: str, name: str) -> None:
    workload = Workload(Random(0), only(kind))
    workload.know((f"MINE-{number}", Offer((), ())) for number in range(FEWEST_PRODUCTS))
    assert next(workload.transactions()).statements[0].name == name


def test_a_relaunch_brings_back_what_was_discontinued() -> None:
    mix = Mix(**dict.fromkeys(KINDS, 0) | {"discontinue": 1, "relaunch": 1})  # type: ignore[arg-type]
    events = [
        (statement.op, statement.rows[0]["sku"])
        for transaction in transactions(1, 300, mix)
        for statement in transaction.statements
        if statement.entity == "product"
    ]
    gone = {sku for op, sku in events if op == "delete"}
    assert any(op == "upsert" and sku in gone for op, sku in events[FEWEST_PRODUCTS:])


def test_merging_keeps_every_row() -> None:
    workload = Workload(Random(0), Mix())
    launches = [transaction for _ in range(100) for transaction in workload.launch()]
    together = merged(launches)
    assert len(together) <= len(LANES)
    assert sum(transaction.size for transaction in together) == sum(
        transaction.size for transaction in launches
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": -1},
        dict.fromkeys(KINDS, 0),
        {"currencies": ()},
        {"warehouses": ()},
        {"largest_order": 0},
        {"skew": -0.1},
    ],
)
def test_a_mix_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Misconfigured):
        Mix(**wrong)  # type: ignore[arg-type]
