"""Step 1: outboxes as a source of Bytewax, and the removal of what was published as a sink.

What a batch is, and when it is due, each ``Outbox`` decides by itself; here the worker waits for the news of
all of them at once.
"""

import select
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from sources.outbox_queue import Outbox
from syncline.model.outbox import OutboxBatch, Publication
from syncline.stopping import Stop


class _Waiter:
    """Waits for news of all outboxes of a worker at once, when each has been asked since the last wait."""

    def __init__(self, idle_wait: timedelta) -> None:
        self._idle_wait_seconds = idle_wait.total_seconds()
        self._asked: set[str] = set()

    def before_asking(self, schema: str, outboxes: Mapping[str, Outbox]) -> None:
        if schema not in self._asked:
            self._asked.add(schema)
            return
        self._asked = {schema}
        due_in_seconds = min(outbox.due_in_seconds for outbox in outboxes.values())
        if due_in_seconds == 0 or any(outbox.in_flight for outbox in outboxes.values()):
            return
        sockets = {outbox.socket: outbox for outbox in outboxes.values() if outbox.socket is not None}
        readable, _, _ = select.select(list(sockets), [], [], min(due_in_seconds, self._idle_wait_seconds))
        for socket in readable:
            sockets[socket].tell_news()


class _Partition(StatefulSourcePartition[OutboxBatch, None]):
    def __init__(
        self,
        outbox: Outbox,
        outboxes: Mapping[str, Outbox],
        waiter: _Waiter,
        stop: Stop,
        on_poll: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._outboxes = outboxes
        self._waiter = waiter
        self._stop = stop
        self._on_poll = on_poll

    def next_batch(self) -> list[OutboxBatch]:
        if all(outbox.is_well for outbox in self._outboxes.values()):
            self._on_poll()
        if self._stop.requested:
            return self._last_batch()
        self._waiter.before_asking(self._outbox.schema, self._outboxes)
        if self._outbox.due_in_seconds > 0:
            return []
        batch = self._outbox.read()
        return [] if batch is None else [batch]

    def _last_batch(self) -> list[OutboxBatch]:
        if self._outbox.in_flight:
            return []
        batch = self._outbox.last_batch()
        if batch is None:
            raise StopIteration
        return [batch]

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        self._outbox.close()


class OutboxSource(FixedPartitionedSource[OutboxBatch, None]):
    """The outboxes of several schemas; each is a partition, and holds nothing but a lock."""

    def __init__(
        self,
        outboxes: Mapping[str, Outbox],
        idle_wait: timedelta,
        stop: Stop,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._outboxes = outboxes
        self._on_poll = on_poll
        self._stop = stop
        self._idle_wait = idle_wait
        self._workers = threading.local()

    def list_parts(self) -> list[str]:
        return list(self._outboxes)

    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[OutboxBatch, None]:
        if not hasattr(self._workers, "outboxes"):
            self._workers.outboxes = {}
            self._workers.waiter = _Waiter(self._idle_wait)
        self._workers.outboxes[for_part] = self._outboxes[for_part]
        return _Partition(
            self._outboxes[for_part], self._workers.outboxes, self._workers.waiter, self._stop, self._on_poll
        )


class OutboxRemoval(DynamicSink[Publication]):
    """Removes what is committed. Runs in the worker that read it: nothing between may re-key."""

    def __init__(self, outboxes: Mapping[str, Outbox]) -> None:
        self._outboxes = outboxes

    def build(
        self, step_id: str, worker_index: int, worker_count: int
    ) -> StatelessSinkPartition[Publication]:
        return _Removal(self._outboxes)


class _Removal(StatelessSinkPartition[Publication]):
    def __init__(self, outboxes: Mapping[str, Outbox]) -> None:
        self._outboxes = outboxes

    def write_batch(self, items: list[Publication]) -> None:
        for publication in items:
            self._outboxes[publication.batch.schema].settle(publication)
