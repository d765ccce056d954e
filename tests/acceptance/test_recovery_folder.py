"""The recovery folder: the same one serves any number of processes, and losing it costs only time."""

import shutil

import pytest

from syncline.services.shop import Shop
from tests.acceptance.world import World

CHANGES = 1_500
RATE = 500


@pytest.mark.timeout(240)
def test_the_same_folder_resumes_with_one_then_three_then_two_processes(shop_world: World) -> None:
    shop = Shop(shop_world.settings.source_dsns, seed=11)
    shop.seed_products(200)
    with shop_world.relay():
        for count in (1, 3, 2):
            with shop_world.search(count) as search:
                shop.run(RATE, changes=CHANGES)
                shop_world.wait_until_fresh()
                search.stop()
                assert [process.returncode for process in search.processes] == [0] * count
    report = shop_world.verify()
    assert report.is_clean, report.differing_keys
    assert report.equal == report.compared >= 200


@pytest.mark.timeout(240)
def test_a_folder_that_is_deleted_while_changes_flow_costs_only_time(shop_world: World) -> None:
    shop = Shop(shop_world.settings.source_dsns, seed=13)
    shop.seed_products(200)
    with shop_world.relay():
        search = shop_world.search()
        search.start()
        shop.run(RATE, changes=CHANGES)
        search.kill()
        shutil.rmtree(shop_world.recovery_folder)
        with shop_world.search():
            shop.run(RATE, changes=CHANGES)
            shop_world.wait_until_fresh()
    report = shop_world.verify()
    assert report.is_clean, report.differing_keys
    assert report.equal == report.compared >= 200
