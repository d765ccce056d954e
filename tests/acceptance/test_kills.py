"""kill -9 of the flow and of the relay, while the shop is at work: nothing lost, order held."""

from collections.abc import Callable

import pytest

from syncline.flow_processes import FlowProcesses
from syncline.services.pace import Progress
from syncline.services.shop import Shop
from tests.acceptance.published import (
    assert_first_publication_is_in_version_order,
    assert_repeats_are_contiguous_replays,
    read_published,
)
from tests.acceptance.world import World
from tests.road import Road, port_of
from tests.waiting import eventually

CHANGES = 20_000
RATE = 1_000
KILLS = ("search", "relay", "search", "relay")


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_out_of_order_when_flow_and_relay_are_killed_twice(shop_world: World) -> None:
    shop = Shop(shop_world.settings.source_dsns, seed=7)
    shop.seed_products(1_000)
    running: dict[str, FlowProcesses] = {}
    starters: dict[str, Callable[[], FlowProcesses]] = {
        "relay": shop_world.relay,
        "search": shop_world.search,
    }

    def start(name: str) -> None:
        running[name] = starters[name]()
        running[name].start()

    kill_at = [CHANGES * (number + 1) // (len(KILLS) + 1) for number in range(len(KILLS))]
    waiting = list(zip(kill_at, KILLS, strict=True))

    def kill_when_due(progress: Progress) -> None:
        if waiting and progress.changes >= waiting[0][0]:
            _, name = waiting.pop(0)
            running[name].kill()
            start(name)

    try:
        for name in starters:
            start(name)
        shop.run(RATE, changes=CHANGES, on_progress=kill_when_due)
        assert not waiting, "not every kill took place"
        shop_world.wait_until_fresh()
    finally:
        for processes in running.values():
            processes.stop()

    report = shop_world.verify()
    assert report.is_clean, report.differing_keys
    assert report.equal == report.compared >= 1_000
    for committed in (True, False):
        published = read_published(shop_world.settings, committed=committed)
        assert_first_publication_is_in_version_order(published)
        assert_repeats_are_contiguous_replays(published)


@pytest.mark.timeout(240)
def test_a_kill_between_the_write_and_its_invalidation_leaves_no_stale_cache_key(shop_world: World) -> None:
    """Nor one of the listing that the product left, of which the change itself says nothing."""
    sku = shop_world.settings.topic_prefix
    keys = {f"product:{sku}": b"stale", f"category:tea-{sku}": b"stale"}
    with shop_world.database() as database, shop_world.cache() as cache, shop_world.relay():
        with shop_world.search():
            database.execute(
                "INSERT INTO catalog.products (sku, name, category) VALUES (%s, 'Tea', %s)",
                (sku, f"tea-{sku}"),
            )
            wait_for_document(shop_world, sku, f"tea-{sku}")
        cache.mset(keys)
        with Road(port_of(shop_world.settings.redis_url.get_secret_value())) as road:
            road.silence()
            hanging = shop_world.settings.model_copy(update={"redis_url": f"redis://{road.address}/0"})
            search = shop_world.search(settings=hanging)
            search.start()
            database.execute("UPDATE catalog.products SET category = 'garden' WHERE sku = %s", (sku,))
            wait_for_document(shop_world, sku, "garden")
            search.kill()
        assert cache.mget(keys) == list(keys.values()), "the kill came too late to prove anything"
        with shop_world.search():
            eventually(lambda: not cache.exists(*keys), what="the removal of what is stale")


def wait_for_document(world: World, sku: str, category: str) -> None:
    alias = world.settings.search_alias
    with world.elasticsearch() as elasticsearch:
        eventually(
            lambda: (
                elasticsearch.options(ignore_status=404)
                .get(index=alias, id=sku)
                .get("_source", {})
                .get("category")
                == category
            ),
            seconds=60,
            what=f"{sku} in {category}",
        )
