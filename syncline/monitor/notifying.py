"""Rounds of notification: each target that may be told is told once of all that is new to it.

What a target was told is remembered in the transaction in which it is told. So a message that fails is told
later, with what came since. Only one that was taken just before the database or this process went away is
told twice. What is overdue in the search copy is noted in the database first, and told from there.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import structlog
from prometheus_client import Counter

from syncline.clock import Clock
from syncline.model.errors import Misconfigured, SynclineError, Unavailable
from syncline.monitor import sql
from syncline.monitor.notification import EXAMPLES, Example, Message, Source, Tally, next_try_us, word
from syncline.monitor.overdue_references import FLOW, OverdueReferences
from syncline.monitor.targets import Target
from syncline.policies.ownership import EntityPolicy
from syncline.policies.recipients import Interest, interests
from syncline.postgres import Connection, connect, raise_typed
from syncline.statements import named_statements
from syncline.stopping import Stop

NOTIFICATIONS_TOTAL = Counter(
    "syncline_notifications", "Messages to people, by what became of them.", ["recipient", "outcome"]
)

_STATEMENTS = named_statements(sql, "notification")
_log = structlog.get_logger()


class Notifier:
    """Tells the targets of what concerns their recipients."""

    def __init__(
        self,
        dsn: str,
        targets: Sequence[Target],
        recipients: Mapping[str, Collection[str]],
        topics: Mapping[str, EntityPolicy],
        personal: Collection[str],
        overdue_references: OverdueReferences,
        interval_us: int,
        clock: Clock,
    ) -> None:
        """``recipients`` by entity type. Raises ``Misconfigured`` for a target that could never be told."""
        self._dsn = dsn
        self._targets = targets
        self._personal = personal
        self._overdue_references = overdue_references
        self._topic_types = {topic: policy.type for topic, policy in topics.items()}
        self._interests = interests(recipients, topics)
        self._interval_us = interval_us
        self._clock = clock
        if not targets:
            raise Misconfigured("notify_targets: there are none, so nobody could be told")
        for target in targets:
            target.check()
            if target.recipient not in self._interests:
                raise Misconfigured(
                    f"notify_targets: {target.recipient!r} is told of nothing; "
                    f"there are {', '.join(self._interests)}"
                )

    @property
    def without_target(self) -> list[str]:
        """Recipients that the policies name and that cannot be reached."""
        return sorted(self._interests.keys() - {target.recipient for target in self._targets})

    def round(self, stop: Stop) -> int:
        """Tell each target that may be told now, and answer how many did not take their message.

        Raises ``Unavailable`` or a ``FatalError`` where the database does not answer; also where the search
        copy does not, after all else was told.
        """
        now_us = self._clock()
        failed = 0
        unread: SynclineError | None = None
        try:
            with connect(self._dsn, "syncline-notify") as connection:
                try:
                    self._note_overdue(connection, now_us, stop)
                except SynclineError as error:
                    unread = error
                for target in self._targets:
                    if stop.requested:
                        break
                    failed += not self._tell(connection, target, now_us)
        except psycopg.Error as error:
            raise_typed(error, "reading what is new")
        if unread is not None:
            raise unread
        return failed

    def _note_overdue(self, connection: Connection, now_us: int, stop: Stop) -> None:
        noted = {"flow": FLOW, "now_us": now_us}
        for found in self._overdue_references.read(datetime.fromtimestamp(now_us / 1e6, UTC), stop):
            if stop.requested:
                return
            rows = [
                {
                    "entity_type": each.entity.type,
                    "entity_id": each.entity.id,
                    "referenced": str(each.referenced),
                    "since": each.since,
                }
                for each in found
            ]
            connection.execute(_STATEMENTS["note_overdue"], noted | {"found": orjson.dumps(rows).decode()})
        connection.execute(_STATEMENTS["forget_no_longer_overdue"], noted)

    def _tell(self, connection: Connection, target: Target, now_us: int) -> bool:
        """Whether all is well: told, nothing new, or not to be told before a later round."""
        key = {"target": str(target)}
        connection.execute(_STATEMENTS["know_target"], key)
        with connection.transaction():
            held = connection.execute(_STATEMENTS["hold_target"], key).fetchone()
            if held is None or held[0] > now_us:
                return True
            _, failures, told_at = held
            error: Unavailable | None = None
            tallies: Sequence[Tally] = ()
            try:
                with connection.transaction():
                    tallies = self._take(connection, target)
                    if not tallies:
                        return True
                    target.send(self._message(tallies, told_at))
            except Unavailable as refusal:
                error = refusal
            failures = 0 if error is None else failures + 1
            next_us = next_try_us(now_us, self._interval_us, failures)
            tried = key | {"next_try_us": next_us, "failures": failures, "now_us": now_us}
            connection.execute(_STATEMENTS["remember_try"], tried)
        self._report(target, tallies, failures, error, (next_us - now_us) // 1_000_000)
        return error is None

    def _take(self, connection: Connection, target: Target) -> list[Tally]:
        connection.execute(_STATEMENTS["forget_settled"], {"target": str(target)})
        interest = self._interests[target.recipient]
        rows = connection.execute(_STATEMENTS["take_news"], _parameters(target, interest))
        return [
            Tally(
                Source(source),
                entity_type,
                topic,
                kind,
                field,
                count,
                [Example(*example) for example in examples],
            )
            for source, entity_type, topic, kind, field, count, examples in rows
        ]

    def _message(self, tallies: Sequence[Tally], told_at: datetime | None) -> Message:
        return word(tallies, self._personal, self._topic_types, told_at)

    def _report(
        self,
        target: Target,
        tallies: Sequence[Tally],
        failures: int,
        error: Unavailable | None,
        seconds_to_next_try: int,
    ) -> None:
        outcome = "sent" if error is None else "failed"
        NOTIFICATIONS_TOTAL.labels(target.recipient, outcome).inc()
        log = _log.bind(target=str(target), news=sum(tally.count for tally in tallies))
        if error is None:
            log.info("notified")
        else:
            log.warning(
                "not notified", error=str(error), failures=failures, next_try_in_s=seconds_to_next_try
            )


def _parameters(target: Target, interest: Interest) -> dict[str, Any]:
    return {
        "target": str(target),
        "everything": interest.everything,
        "entities": sorted(interest.entities),
        "topics": sorted(interest.topics),
        "examples": EXAMPLES,
    }
