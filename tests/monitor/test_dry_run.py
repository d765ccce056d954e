"""A dry run reads the copy, decides as the flow does, and writes nothing."""

from sinks.elasticsearch import ElasticsearchStore
from syncline.monitor.dry_run import DryRun
from syncline.policies.search_document import SearchDocument
from syncline.settings import Settings
from tests.changes import SEARCH, TOPIC_PREFIX, change_message, price, product, stock
from tests.monitor.shop import Shop


def test_the_copy_is_read_and_not_written(shop: Shop, own: Settings) -> None:
    document = shop.sell("SKU-1")
    document["_sync"]["entities"]["stock:W1:SKU-1"]["version"] = [1, 5, 0, 0]
    shop.index(document)
    store = ElasticsearchStore(own.elasticsearch_url.get_secret_value(), own.search_alias)
    before = store.read(["SKU-1", "SKU-9"])
    messages = [
        change_message("stock", stock(on_hand=1, reserved=0), 4),
        change_message("stock", stock(on_hand=77, reserved=0), 6),
        change_message("product", product("SKU-9"), 1, is_first=True),
    ]

    late, newer, new = DryRun(SEARCH, SearchDocument(), store, TOPIC_PREFIX)(messages)

    assert (late.decision, newer.decision, new.decision) == ("superseded", "applied", "applied")
    assert late.document is not None
    assert newer.document is not None
    assert newer.document["stock"]["by_warehouse"]["W1"]["on_hand"] == 77
    assert store.read(["SKU-1", "SKU-9"]) == before
    store.close()


def test_without_a_copy_each_change_stands_on_those_before_it() -> None:
    run = DryRun(SEARCH, SearchDocument(), None, TOPIC_PREFIX)
    messages = [change_message("price", price(), version) for version in (1, 2, 2)]

    assert [verdict.decision for verdict in run(messages)] == ["applied", "applied", "duplicate"]
