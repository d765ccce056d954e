"""The search index as it is, hidden documents included.

A point in time keeps what is listed consistent while the flow writes on; documents come in the order of
their SKU, which Elasticsearch sorts by bytes of UTF-8, and that is the order of code points.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sinks.elasticsearch import ElasticsearchStore
from syncline.monitor.read_ahead import read_ahead
from syncline.stopping import Stop

DOCUMENTS_AT_ONCE = 5_000
KEEP_ALIVE = "2m"

_WITHOUT_PRODUCT: Mapping[str, Any] = {
    "bool": {"filter": {"term": {"_sync.hidden": True}}, "must_not": {"exists": {"field": "name"}}}
}


class Listed(NamedTuple):
    """A document where its SKU puts it; one without a SKU stands last."""

    sku: str | None
    document_id: str
    source: dict[str, Any]


Pages = Generator[list[Listed], None, None]


class SearchCopy:
    """The concrete index behind the alias, so that the alias's filter hides nothing."""

    def __init__(self, url: str, alias: str, stop: Stop | None = None) -> None:
        """Where there is a stop it lets go of a request that is not answered: ``Unavailable``."""
        self._store = ElasticsearchStore(url, alias, stop)

    def close(self) -> None:
        self._store.close()

    def all(self) -> Iterator[Listed]:
        """Every document that was acknowledged before this call."""
        return read_ahead(self._pages({"match_all": {}}))

    def without_product(self) -> Pages:
        """The documents that have no product, or none any more, in pages. To be closed before this is."""
        return self._pages(_WITHOUT_PRODUCT)

    def some(self, document_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """These documents as they are now, those that exist."""
        read = self._store.read(document_ids)
        return {document_id: stored.document for document_id, stored in read.items()}

    def _pages(self, query: Mapping[str, Any]) -> Pages:
        client, ask = self._store.client, self._store.ask
        index, _, _ = self._store.identity().partition(":")
        ask(client.indices.refresh, index=index)
        pit_id = ask(client.open_point_in_time, index=index, keep_alive=KEEP_ALIVE)["id"]
        try:
            after: dict[str, Any] = {}
            while True:
                answer = ask(
                    client.search,
                    pit={"id": pit_id, "keep_alive": KEEP_ALIVE},
                    query=query,
                    size=DOCUMENTS_AT_ONCE,
                    sort=[{"sku": {"order": "asc", "missing": "_last"}}],
                    track_total_hits=False,
                    allow_partial_search_results=False,
                    **after,
                ).body  # without filter_path, which halves the rate here
                hits = answer["hits"]["hits"]
                if not hits:
                    return
                yield [Listed(hit["sort"][0], hit["_id"], hit["_source"]) for hit in hits]
                pit_id, after = answer["pit_id"], {"search_after": hits[-1]["sort"]}
        finally:
            ask(client.close_point_in_time, id=pit_id)
