"""A person's answer to a conflict or a review: recorded, and sent to the flow, in one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from psycopg.types.json import Jsonb

from syncline.model.change import EntityKey
from syncline.model.errors import NotPossible
from syncline.monitor import sql
from syncline.monitor.answer_check import check_answer
from syncline.monitor.audited_conflicts import (
    AuditedConflict,
    AuditedReview,
    Resolution,
    Search,
    read_conflicts,
    read_reviews,
)
from syncline.monitor.conflict_choice import Answer, Choice, answer_conflict, answer_review
from syncline.monitor.stored_content import stored_content
from syncline.policies.reading import load_policies
from syncline.postgres import Connection, transaction
from syncline.settings import Settings
from syncline.statements import named_statements

_STATEMENTS = named_statements(sql, "conflict_resolution")


@dataclass(frozen=True, slots=True)
class Resolved:
    """``sent_version`` is that of what was sent to the flow; ``None`` where what is right stands."""

    name: str
    flow: str
    sent_version: int | None
    also_resolved: tuple[str, ...] = ()
    """Conflicts of the field that the same answer settles."""


def find(connection: Connection, name: str) -> AuditedConflict | AuditedReview:
    """What the command line calls ``c34`` or ``r12``. Raises ``NotPossible``."""
    kind, number = name[:1], name[1:]
    found: list[AuditedConflict] | list[AuditedReview] = []
    if number.isascii() and number.isdigit():
        search = Search(id=int(number))
        if kind == "c":
            found = read_conflicts(connection, search)
        elif kind == "r":
            found = read_reviews(connection, search)
    if not found:
        raise NotPossible(f"there is no conflict or review {name}; see: syncline conflicts list")
    return found[0]


def resolve(settings: Settings, name: str, choice: Choice) -> Resolved:
    """Raises ``NotPossible``, which says what would be right."""
    dsn = settings.postgres_dsn.get_secret_value()
    with transaction(dsn, "syncline-conflicts", f"resolving {name}") as connection:
        found = find(connection, name)
        if isinstance(found, AuditedReview):
            return _resolve_review(connection, found.id, choice, settings)
        return _resolve_conflict(connection, found.id, choice, settings)


def _resolve_review(connection: Connection, id_: int, choice: Choice, settings: Settings) -> Resolved:
    connection.execute(_STATEMENTS["lock_review"], {"id": id_})
    [review] = read_reviews(connection, Search(id=id_))
    version = _next_version(connection)
    answer = answer_review(review, choice, version, datetime.now(UTC))
    _check(review, answer, settings)
    _withdraw_failed(connection, review.resolution, choice)
    connection.execute(_STATEMENTS["resolve_review"], {"id": id_, **_on_record(answer, choice)})
    entity = EntityKey(review.entity_type, review.entity_id)
    covered = [
        conflict
        for conflict in read_conflicts(connection, Search(flow=review.flow, entities=[entity]))
        if _is_covered(conflict, review.field, answer.how["covers"])
    ]
    _record(connection, covered, Answer({**answer.how, "review": review.name}, None), choice)
    return Resolved(
        review.name, review.flow, _send(connection, answer, version), tuple(each.name for each in covered)
    )


def _is_covered(conflict: AuditedConflict, field: str, covers: dict[str, int]) -> bool:
    """Whether it is over this field, between values that the answer has seen, and still nobody's."""
    return (
        conflict.field == field
        and not conflict.is_resolved
        and all(
            side.version and side.version[-1] <= covers.get(side.writer, 0)
            for side in (conflict.known, conflict.arrived)
        )
    )


def _resolve_conflict(connection: Connection, id_: int, choice: Choice, settings: Settings) -> Resolved:
    entities = load_policies(settings.policies_dir).entities
    connection.execute(_STATEMENTS["lock_conflict"], {"id": id_})
    [conflict] = read_conflicts(connection, Search(id=id_))
    version = _next_version(connection)
    stored = partial(stored_content, settings=settings)
    answer = answer_conflict(conflict, choice, entities, settings.topic_prefix, version, stored)
    _check(conflict, answer, settings)
    _withdraw_failed(connection, conflict.resolution, choice)
    _record(connection, [conflict], answer, choice)
    return Resolved(conflict.name, conflict.flow, _send(connection, answer, version))


def _check(asked: AuditedConflict | AuditedReview, answer: Answer, settings: Settings) -> None:
    if answer.sending is not None:
        flow = load_policies(settings.policies_dir).flow(asked.flow)
        check_answer(asked.name, answer.sending, flow, settings.topic_prefix)


def _withdraw_failed(connection: Connection, resolution: Resolution | None, choice: Choice) -> None:
    """An answer that failed leaves the quarantine when a new one is given."""
    if resolution is not None and resolution.failed is not None:
        connection.execute(
            _STATEMENTS["withdraw"],
            {"id": resolution.failed.quarantine_id, "by": choice.by, "why": f"answered anew: {choice.why}"},
        )


def _next_version(connection: Connection) -> int:
    [(version,)] = connection.execute(_STATEMENTS["next_version"]).fetchall()
    return int(version)


def _record(
    connection: Connection, conflicts: Iterable[AuditedConflict], answer: Answer, choice: Choice
) -> None:
    ids = [conflict.id for conflict in conflicts]
    connection.execute(_STATEMENTS["resolve_conflicts"], {"ids": ids, **_on_record(answer, choice)})


def _on_record(answer: Answer, choice: Choice) -> dict[str, Any]:
    return {"by": choice.by, "why": choice.why, "how": Jsonb(answer.how)}


def _send(connection: Connection, answer: Answer, version: int) -> int | None:
    if answer.sending is None:
        return None
    kind, document_id, payload = answer.sending
    connection.execute(
        _STATEMENTS["send"],
        {"document_id": document_id, "kind": kind, "payload": Jsonb(payload), "version": version},
    )
    return version
