from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.settings import Settings
from tests.acceptance.world import World, world


@pytest.fixture
def shop_world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    with world(settings, tmp_path) as made:
        yield made
