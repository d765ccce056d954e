"""What a person does about quarantined changes: look, correct, replay, discard.

Each act is one transaction: the entry's row says who did what and why, and what is replayed stands in
``sync.outbox``, from where it takes the road that every change takes.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from syncline.kafka import LARGEST_CARRIED_BYTES
from syncline.model.errors import NotPossible
from syncline.monitor import sql
from syncline.policies.documents import DOCUMENTS
from syncline.policies.reentry import AGGREGATE_TYPE, SCHEMA
from syncline.postgres import Connection, transaction
from syncline.statements import named_statements

OPEN, REPLAYING, DISCARDED = "open", "replaying", "discarded"
_UNSETTLED = frozenset({OPEN, REPLAYING})
_LOCK = b" FOR UPDATE"
"""What acts on an entry keeps the flow from changing it meanwhile."""
_TOPIC_END = f".{SCHEMA}.{AGGREGATE_TYPE}"


@dataclass(frozen=True, slots=True)
class Selection:
    """What entries have in common; ``None`` means any. ``entity`` is a type or a whole key, ``reason`` a part
    of the text."""

    flow: str | None = None
    step: str | None = None
    error: str | None = None
    entity: str | None = None
    topic: str | None = None
    reason: str | None = None

    @classmethod
    def parse(cls, conditions: Iterable[str]) -> "Selection":
        """From texts such as ``flow=catalog_search``. Raises ``NotPossible``."""
        known = [field.name for field in fields(cls)]
        values: dict[str, str] = {}
        for condition in conditions:
            name, equals, value = condition.partition("=")
            if name not in known or not equals:
                raise NotPossible(
                    f"{condition!r} is no condition; write NAME=VALUE, NAME of {', '.join(known)}"
                )
            values[name] = value
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of ``sync.quarantine`` without the message itself."""

    id: int
    flow: str
    step: str
    state: str
    error: str
    reason: str
    entity: str | None
    """``None`` where nothing was decoded."""
    version: list[int] | None
    topic: str
    partition: int
    offset: int
    """Where it was seen last."""
    size_bytes: int
    first_seen: datetime
    last_seen: datetime
    count: int
    handled_by: str | None
    why: str | None
    handled_at: datetime | None
    ended_at: datetime | None
    answers: str | None
    """The conflict or review that a person answered by this; as ``syncline conflicts`` names it."""


class Content(NamedTuple):
    """The message, raw, and what is replayed in place of its value once that was corrected."""

    key: bytes | None
    value: bytes | None
    corrected_value: bytes | None
    headers: list[tuple[str, str | None]]
    """Values in hexadecimal."""


class Corrected(NamedTuple):
    """What a field said, and what it says now."""

    field: str
    before: Any
    after: Any


class Replayed(NamedTuple):
    """Entries that are on their way again, and why others cannot be, by entry."""

    ids: list[int]
    refused: dict[int, str]


class QuarantineDesk:
    """Where a person sees to entries. Each method raises ``NotPossible``, and changes nothing, where what is
    asked cannot be done."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._statements = named_statements(sql, "quarantine_entries")

    def entries(
        self, selection: Selection, state: str | None = OPEN, limit: int | None = None
    ) -> list[Entry]:
        with self._transaction() as connection:
            return self._choose(connection, selection, state, limit, lock=b"")

    def show(self, entry_id: int) -> tuple[Entry, Content]:
        with self._transaction() as connection:
            return self._entry(connection, entry_id, b""), self._content(connection, entry_id)

    def correct(self, entry_id: int, settings: Mapping[str, str], by: str, why: str) -> list[Corrected]:
        """Change fields of the value, keep the original beside it, and replay it."""
        with self._transaction() as connection:
            entry = self._entry(connection, entry_id)
            _check_replay(entry)
            if entry.entity is None:
                raise NotPossible(
                    f"entry {entry.id} was never decoded, so it has no fields to correct ({entry.reason}); "
                    f"{_instead(entry)}"
                )
            content = self._content(connection, entry_id)
            value, corrected = corrected_value(content, settings)
            if not corrected:
                raise NotPossible(
                    f"entry {entry.id} says so already; to try again as it is: "
                    f"syncline quarantine replay {entry.id}"
                )
            connection.execute(self._statements["correct"], {"id": entry.id, "value": value})
            self._replay(connection, [entry.id], by, why)
        return corrected

    def replay(self, entry_id: int, by: str) -> None:
        with self._transaction() as connection:
            entry = self._entry(connection, entry_id)
            _check_replay(entry)
            self._replay(connection, [entry.id], by, None)

    def replay_all(self, selection: Selection, by: str) -> Replayed:
        """Replay the open entries of the selection; what cannot be replayed stays open."""
        replayed = Replayed([], {})
        with self._transaction() as connection:
            for entry in self._choose(connection, selection, OPEN, None, _LOCK):
                try:
                    _check_replay(entry)
                except NotPossible as problem:
                    replayed.refused[entry.id] = str(problem)
                else:
                    replayed.ids.append(entry.id)
            self._replay(connection, replayed.ids, by, None)
        return replayed

    def discard(self, entry_id: int, by: str, why: str) -> None:
        """Close the entry. A replay that is on its way may still reach the copy."""
        with self._transaction() as connection:
            entry = self._entry(connection, entry_id)
            _check_unsettled(entry)
            connection.execute(self._statements["discard"], {"id": entry.id, "by": by, "why": why})

    def _transaction(self) -> AbstractContextManager[Connection]:
        return transaction(self._dsn, "syncline-quarantine", "working on sync.quarantine")

    def _choose(
        self,
        connection: Connection,
        selection: Selection,
        state: str | None,
        limit: int | None,
        lock: bytes,
        entry_id: int | None = None,
    ) -> list[Entry]:
        wanted = {field.name: getattr(selection, field.name) for field in fields(selection)}
        found = connection.execute(
            self._statements["choose"] + lock, {**wanted, "id": entry_id, "state": state, "limit": limit}
        )
        return [Entry(*row) for row in found]

    def _entry(self, connection: Connection, entry_id: int, lock: bytes = _LOCK) -> Entry:
        found = self._choose(connection, Selection(), None, None, lock, entry_id)
        if not found:
            raise NotPossible(f"there is no entry {entry_id}; run: syncline quarantine list")
        return found[0]

    def _content(self, connection: Connection, entry_id: int) -> Content:
        [row] = connection.execute(self._statements["content"], {"id": entry_id}).fetchall()
        return Content(*row)

    def _replay(self, connection: Connection, ids: list[int], by: str, why: str | None) -> None:
        connection.execute(self._statements["replay"], {"ids": ids, "by": by, "why": why})


def corrected_value(content: Content, settings: Mapping[str, str]) -> tuple[bytes, list[Corrected]]:
    """The value with these fields in it, and which of them it did not have before.

    Raises ``NotPossible`` of a field that the change does not have.
    """
    payload = orjson.loads(content.corrected_value or content.value or b"")
    held = payload["fields"]
    corrected = []
    for field, text in settings.items():
        if field not in held:
            raise NotPossible(f"{field}: the change has no such field; it has {', '.join(sorted(held))}")
        value = _value_like(held[field], text)
        if _plain(held[field]) != _plain(value):
            corrected.append(Corrected(field, held[field], value))
            held[field] = value
    return orjson.dumps(payload), corrected


def _value_like(held: object, text: str) -> object:
    """The text where text stands, else what it is as JSON, if it is any; ``null`` is none in any case."""
    if isinstance(held, str) and text != "null":
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _plain(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _check_unsettled(entry: Entry) -> None:
    if entry.state not in _UNSETTLED:
        by = f" by {entry.handled_by}: {entry.why}" if entry.state == DISCARDED else ""
        raise NotPossible(
            f"entry {entry.id} is {entry.state} already{by}; run: syncline quarantine show {entry.id}"
        )


def _check_replay(entry: Entry) -> None:
    _check_unsettled(entry)
    if entry.flow not in DOCUMENTS:
        raise NotPossible(
            f"entry {entry.id} never reached the log ({entry.reason}), so no flow can take it again; "
            f"{_instead(entry)}"
        )
    if entry.answers is not None:
        raise NotPossible(
            f"entry {entry.id} is somebody's answer to {entry.answers}, which {entry.flow} could not take "
            f"({entry.reason}); {answer_anew(entry.answers)}"
        )
    if entry.topic.endswith(_TOPIC_END):
        raise NotPossible(
            f"entry {entry.id} was sent to {entry.flow} by Syncline itself ({entry.reason}); "
            f"do anew what sent it, and: syncline quarantine discard {entry.id}"
        )
    if entry.size_bytes > LARGEST_CARRIED_BYTES:
        raise NotPossible(
            f"entry {entry.id} has {entry.size_bytes:,} bytes, and a replay carries at most "
            f"{LARGEST_CARRIED_BYTES:,}; {_instead(entry)}"
        )


def answer_anew(name: str) -> str:
    """The way out of the quarantine for an answer: where it was given it is held against what stands now."""
    return (
        f"answer anew, which discards this entry: "
        f"syncline conflicts resolve {name} --take WHICH or --set FIELD=VALUE, --by NAME --why TEXT"
    )


def _instead(entry: Entry) -> str:
    return f"its owner must write it again, and: syncline quarantine discard {entry.id}"
