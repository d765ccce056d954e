"""Indices with the flow's mapping: empty ones, and copies of one that was loaded once.

A copy shares its files with the loaded one (Elasticsearch's clone), so each run begins with the very same
segments, at once.
"""

import time

from elasticsearch import Elasticsearch

from syncline.model.errors import FatalError
from syncline.provision import search_index, search_index_name
from syncline.settings import Settings

_SETTLE_TIMEOUT_SECONDS = 120


def create_empty(client: Elasticsearch, name: str, settings: Settings) -> None:
    body = search_index(settings)
    client.indices.create(index=name, settings=body["settings"], mappings=body["mappings"])


def create_for_flow(client: Elasticsearch, settings: Settings, base: str | None) -> None:
    """The flow's own index behind its alias: empty, or a copy of ``base``."""
    name, body = search_index_name(settings), search_index(settings)
    if base is None:
        client.indices.create(index=name, **body)
    else:
        copy(client, base, name)
        client.indices.put_alias(
            index=name, name=settings.search_alias, **body["aliases"][settings.search_alias]
        )


def seal(client: Elasticsearch, name: str) -> None:
    """Make the loaded index one that can be copied: on disk, merged as far as it wants, read only."""
    client.indices.refresh(index=name)
    client.indices.flush(index=name, force=True, wait_if_ongoing=True)
    settle(client, name)
    client.indices.add_block(index=name, block="write")


def copy(client: Elasticsearch, base: str, name: str) -> None:
    client.indices.clone(
        index=base, target=name, settings={"index.blocks.write": None}, wait_for_active_shards="1"
    )


def settle(client: Elasticsearch, name: str) -> None:
    """Wait until no merge runs: the work of one run must not weigh on the next."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_SECONDS
    while client.indices.stats(index=name, metric="merge")["_all"]["total"]["merges"]["current"]:
        if time.monotonic() > deadline:
            raise FatalError(f"{name} still merges after {_SETTLE_TIMEOUT_SECONDS} s")
        time.sleep(0.2)
