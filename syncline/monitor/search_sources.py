"""What the search documents must say, from the source tables themselves."""

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson
import psycopg

from syncline.monitor.part_query import part_query
from syncline.monitor.read_ahead import read_ahead
from syncline.monitor.search_comparison import Parts, SourcePart, entity_of
from syncline.policies.policies import FlowPolicy
from syncline.postgres import connect, raise_typed

ROWS_AT_ONCE = 2_000
READING = "reading the source tables"


_Row = tuple[str, str, str]
"""SKU, entity type, and the parts by slot as JSON."""


class SearchSources:
    """The three source databases, each read over a connection of its own."""

    def __init__(self, dsns: Mapping[str, str], policy: FlowPolicy) -> None:
        self._closing = ExitStack()
        self._statements = {file.entity: part_query(file, policy.name) for file in policy.files}
        try:
            self._connections = {
                file.entity: self._closing.enter_context(connect(dsns[file.owner], "syncline-verify"))
                for file in policy.files
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
