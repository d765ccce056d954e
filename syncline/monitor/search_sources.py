"""What the search documents must say, from the source tables themselves.

The parts are put into the document's form by SQL, so nothing that the flow's code gets wrong can be
wrong here in the same way.
"""

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson
import psycopg

from syncline.monitor import sql
from syncline.monitor.read_ahead import read_ahead
from syncline.monitor.search_comparison import Parts, SourcePart, entity_of
from syncline.policies.ownership import EntityPolicy
from syncline.postgres import connect, raise_typed
from syncline.statements import statement

ROWS_AT_ONCE = 2_000
READING = "reading the source tables"


_Row = tuple[str, str, str]
"""SKU, entity type, and the parts by slot as JSON."""


class SearchSources:
    """The three source databases, each read over a connection of its own."""

    def __init__(self, dsns: Mapping[str, str], entities: Sequence[EntityPolicy]) -> None:
        self._closing = ExitStack()
        self._statements = {policy.type: statement(sql, f"search_{policy.type}") for policy in entities}
        try:
            self._connections = {
                policy.type: self._closing.enter_context(connect(dsns[policy.owner], "syncline-verify"))
                for policy in entities
            }
        except BaseException:
            self._closing.close()
            raise

    def close(self) -> None:
        self._closing.close()

    def all(self) -> Iterator[tuple[str, Parts]]:
        """The parts of every SKU that has any, in the order of code points."""
        rows = heapq.merge(
            *(read_ahead(self._chunks(entity_type)) for entity_type in self._statements), key=itemgetter(0)
        )
        return _by_sku(rows)

    def some(self, skus: Sequence[str]) -> dict[str, Parts]:
        """The parts of these SKUs as they are now; one without any is left out."""
        rows: list[_Row] = []
        for entity_type, query in self._statements.items():
            try:
                found = self._connections[entity_type].execute(query, {"skus": list(skus)}).fetchall()
            except psycopg.Error as error:
                raise_typed(error, READING)
            rows.extend((sku, entity_type, parts) for sku, parts in found)
        return dict(_by_sku(sorted(rows)))

    def _chunks(self, entity_type: str) -> Iterator[list[_Row]]:
        connection = self._connections[entity_type]
        try:
            # A cursor on the server lives as long as its transaction.
            with connection.transaction(), connection.cursor(name=f"verify_{entity_type}") as cursor:
                cursor.execute(self._statements[entity_type], {"skus": None})
                while found := cursor.fetchmany(ROWS_AT_ONCE):
                    yield [(sku, entity_type, parts) for sku, parts in found]
        except psycopg.Error as error:
            raise_typed(error, READING)


def _by_sku(rows: Iterable[_Row]) -> Iterator[tuple[str, Parts]]:
    for sku, group in groupby(rows, key=itemgetter(0)):
        yield (
            sku,
            {
                entity_of(entity_type, slot, sku): SourcePart(entity_type, slot, int(version), body)
                for _, entity_type, text in group
                for slot, (version, body) in _loads(text).items()
            },
        )


def _loads(text: str) -> dict[str, tuple[int | str, dict[str, Any]]]:
    try:
        slots: dict[str, tuple[int | str, dict[str, Any]]] = orjson.loads(text)
    except orjson.JSONDecodeError:
        # A number beyond what doubles hold. No copy can be equal to it; as text it can be shown.
        slots = json.loads(text, parse_int=str, parse_float=str)
    return slots
