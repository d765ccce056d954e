from collections.abc import Iterable
from itertools import islice
from random import Random

import orjson

from bench.documents import Documents
from bench.goods import Goods
from bench.ledger import Committed, Ledger, as_read, jsonb, record
from operators.decode import Decode
from syncline.model.change import Change
from syncline.policies.reading import load_policies
from syncline.services.workload import Mix, Workload


def changes(count: int) -> list[Committed]:
    workload = Workload(Random(5), Mix(launch=8, discontinue=6, relaunch=4))
    return list(Ledger().commit(islice(workload.transactions(), count)))


def decoded(committed: Iterable[Committed]) -> list[Change]:
    messages = as_read((record(change, "shop") for change in committed), 1)
    found = Decode(load_policies().topics("shop"))(messages)
    good = [change for change in found if isinstance(change, Change)]
    assert len(good) == len(found)
    return good


def test_every_change_that_the_shop_makes_can_be_decoded() -> None:
    committed = changes(1_000)
    read = decoded(committed)
    assert {change.op for change in read} == {"upsert", "delete"}
    assert [change.is_first for change in read] == [change.type == "created" for change in committed]


def test_versions_grow_and_a_delete_repeats_the_last_one() -> None:
    last: dict[str, Change] = {}
    for change in decoded(changes(1_000)):
        before = last.get(str(change.entity))
        if before is not None:
            assert change.version > before.version
            assert (change.version.row == before.version.row) == (change.op == "delete")
        last[str(change.entity)] = change


def test_json_looks_as_postgresql_prints_it() -> None:
    assert jsonb({"sku": "A", "op": "x", "ätt": {"bb": 1, "a": [True, None]}}) == (
        '{"op": "x", "sku": "A", "ätt": {"a": [true, null], "bb": 1}}'
    )


def test_the_same_seed_makes_the_same_bytes() -> None:
    first, second = (
        [record(change, "shop") for _ in range(20) for change in goods.launch()]
        for goods in (Goods(3), Goods(3))
    )
    assert first == second


def test_one_update_each_is_one_change_of_each_product() -> None:
    goods = Goods(3)
    for _ in range(50):
        goods.launch()
    skus = goods.shuffled_skus()
    updates = list(goods.one_update_each(skus))
    assert [update.sku for update in updates] == skus
    assert {update.type for update in updates} <= {"updated", "created"}
    assert {update.policy.type for update in updates} == {"product", "price", "stock"}


def test_documents_hold_what_was_committed() -> None:
    goods, documents = Goods(3), Documents("shop")
    launch = goods.launch()
    document_id, body = documents.new(launch)
    assert len(orjson.loads(body)["_sync"]["entities"]) == len(launch)
    documents.keep(document_id, body)
    [update] = goods.one_update_each([document_id])
    [(updated_id, updated)] = documents.updated([update])
    entity = f"{update.policy.type}:{update.id}"
    assert updated_id == document_id
    assert orjson.loads(updated)["_sync"]["entities"][entity]["version"][1] == update.version
