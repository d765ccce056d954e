"""Profiles as the writers' tables say, by plain SQL, beside those that the copy shows."""

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg
from psycopg.types.json import Jsonb

from syncline.monitor import sql
from syncline.monitor.open_quarantine import OpenQuarantine
from syncline.monitor.search_comparison import Difference, Finding, Verdict
from syncline.policies.strategies import ConflictPolicy
from syncline.postgres import Connection, connect, raise_typed
from syncline.statements import statement

ROWS_AT_ONCE = 2_000
FIELDS = ("email", "phone", "full_name", "address", "marketing_consent", "consent_at", "notes")
WHOLE = "the whole profile"

_FIELD_OF_COLUMN = {"consent_at": "marketing_consent"}
"""Of columns that share a field; the others are fields of their own."""

Values = tuple[Any, ...]
"""Of a profile's columns."""


class ProfileInCopy(NamedTuple):
    values: Values
    hidden: bool
    resolved: tuple[str, ...]
    """Fields that a person decided, of which the writers' tables know nothing."""
    corrected: tuple[int, ...]
    """Versions of the rows of which a person says something else than their writers."""


Side = tuple[str, Values | ProfileInCopy]
Pair = tuple[str, Values | None, ProfileInCopy | None]


class ProfileSides:
    """The writers' database and that of the copy."""

    def __init__(self, sources_dsn: str, copy_dsn: str, policy: ConflictPolicy) -> None:
        self._rules = rules_in_sql(policy)
        self._closing = ExitStack()
        try:
            self._sources = self._closing.enter_context(connect(sources_dsn, "syncline-verify"))
            self._copy = self._closing.enter_context(connect(copy_dsn, "syncline-verify"))
        except BaseException:
            self._closing.close()
            raise

    def close(self) -> None:
        self._closing.close()

    def all(self) -> Iterator[Pair]:
        """Every customer that either side knows, in the order of ids."""
        return self._pairs(None)

    def some(self, customer_ids: Sequence[str]) -> Iterator[Pair]:
        """These as they are now, known or not."""
        found = {pair[0]: pair for pair in self._pairs(customer_ids)}
        return (found.get(id_, (id_, None, None)) for id_ in customer_ids)

    def _pairs(self, customer_ids: Sequence[str] | None) -> Iterator[Pair]:
        ids = None if customer_ids is None else list(customer_ids)
        both = heapq.merge(self._expected(ids), self._shown(ids), key=itemgetter(0))
        for customer_id, sides in groupby(both, key=itemgetter(0)):
            expected: Values | None = None
            found: ProfileInCopy | None = None
            for _, side in sides:
                if isinstance(side, ProfileInCopy):
                    found = side
                else:
                    expected = side
            yield customer_id, expected, found

    def _expected(self, ids: list[str] | None) -> Iterator[Side]:
        for customer_id, *values, _ in _rows(self._sources, "customer_profiles", {"ids": ids, **self._rules}):
            yield str(customer_id), tuple(values)

    def _shown(self, ids: list[str] | None) -> Iterator[Side]:
        rows = _rows(self._copy, "profiles_in_copy", {"ids": ids})
        for customer_id, *values, hidden, resolved, corrected in rows:
            profile = ProfileInCopy(tuple(values), hidden, tuple(resolved), tuple(corrected))
            yield str(customer_id), profile


def rules_in_sql(policy: ConflictPolicy) -> dict[str, Any]:
    """What ``customer_profiles.sql`` asks to know of the policy, as its parameters."""
    said = [
        {"field": field.name, "strategy": field.rule or field.strategy, "writer": writer, "rank": rank}
        for field in policy.fields
        for rank, writer in enumerate(field.writers)
    ]
    return {"policy": Jsonb(said), "window_s": policy.concurrency_window.total_seconds()}


def _rows(connection: Connection, name: str, parameters: Mapping[str, Any]) -> Iterator[Values]:
    try:
        # A cursor on the server lives as long as its transaction.
        with connection.transaction(), connection.cursor(name=f"verify_{name}") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            yield from cursor.execute(statement(sql, name), parameters)
    except psycopg.Error as error:
        raise_typed(error, f"reading {name}")


def profile_differences(expected: Values | None, found: ProfileInCopy | None) -> Iterator[Difference]:
    """A hidden profile is one of a customer whom no writer has."""
    shown = None if found is None or found.hidden else found.values
    if expected is None or shown is None:
        if expected is not shown:
            yield Difference(WHOLE, _whole(expected), _whole(shown))
        return
    for field, source, copy in zip(FIELDS, expected, shown, strict=True):
        if source != copy or type(source) is not type(copy):
            yield Difference(field, _json(source), _json(copy))


def compare_profiles(
    customer_id: str, expected: Values | None, found: ProfileInCopy | None, quarantine: OpenQuarantine
) -> Verdict:
    """All that differs, and whether it is explained: by a change that waits in quarantine or was corrected
    there, or by a resolution."""
    differences = tuple(profile_differences(expected, found))
    if not differences:
        return Verdict(Finding.EQUAL)
    entity = f"customer:{customer_id}"
    corrected = () if found is None else found.corrected
    if quarantine.has_any(entity) or any(quarantine.has_corrected(entity, row) for row in corrected):
        return Verdict(Finding.EXPLAINED, differences, (entity,))
    resolved = () if found is None else found.resolved
    fields = {_FIELD_OF_COLUMN.get(difference.field, difference.field) for difference in differences}
    if fields <= set(resolved):
        return Verdict(
            Finding.EXPLAINED, differences, tuple(f"resolution:{field}" for field in sorted(fields))
        )
    return Verdict(Finding.DIFFERING, differences)


def _whole(values: Values | None) -> str | None:
    return None if values is None else _json(dict(zip(FIELDS, values, strict=True)))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
