"""Windowed batching: collecting the parts of all lanes of a worker, to decide and write them together."""

from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from itertools import chain

from operators.calls import Underway, do
from operators.crew import Crew, Queue
from operators.decide import Decide
from operators.lanes import LaneBatch, lane_of
from syncline.clock import Clock
from syncline.model.decision import Decided
from syncline.model.part import Part
from syncline.room import Room

CREWS = 4
"""Each writes the documents of its own lanes, so that the worker decides for one while others wait."""
POOLED_BELOW = 500
"""Changes below which those of all crews are written at once and together: one request for all of them is
faster than one for each crew, and so is not handing over."""
POOLED_MAX_BYTES = 1024 * 1024
"""The same in bytes: the worker does nothing else meanwhile."""
BRIM_WINDOWS = 2.5
"""So many full windows may be pending; then the worker waits. Normal changes alone do not fill
them, unless a window is of three changes or fewer."""
BRIM_BYTES = 32 * 1024 * 1024
PENDING_MAX_BYTES = 16 * 1024 * 1024
"""With so much pending there is no room for normal changes."""

NORMAL_BESIDE_CRITICAL = 2
"""So many normal flights are under way at a time while there are critical changes."""

LONGEST_WAIT = timedelta(milliseconds=50)
"""How long what is old enough may wait for crews that are away, to be written together with the rest; then it
goes without them. What is critical does not wait where there is a backlog."""

_LOOK_AGAIN_AFTER = timedelta(milliseconds=1)


class Window:
    """Collects the parts of all lanes of a worker, to write many together.

    Under a light load it closes ``max_age`` after its first part came, and all of it is written in one
    request. Under a heavy one a crew that has its share of ``max_changes`` takes off with it: the store is
    waited for in the background, while the next share fills and other crews' answers are worked on. Until
    it has landed, its parts count as pending, and stand in the snapshot.

    Changes of ``critical`` entity types fly apart from the others and take off first, and wait for no share.
    Of the others no more is pending than each crew's flight and its next one, which the source learns of
    by ``room``: so critical ones come up with them here, and not behind them in a queue.
    """

    def __init__(
        self,
        decide: Decide,
        max_changes: int,
        max_age: timedelta,
        clock: Clock,
        critical: Collection[str] = (),
        room: Room | None = None,
    ) -> None:
        self._decide = decide
        self._max_age = max_age
        self._clock = clock
        self._brim = round(BRIM_WINDOWS * max_changes)
        self._crews = tuple(Crew(max(1, max_changes // CREWS), critical) for _ in range(CREWS))
        self._threads = ThreadPoolExecutor(2 * CREWS, thread_name_prefix="store")
        self._room = room or Room()

    def add(self, batch: LaneBatch) -> Decided:
        """Take a batch; answer what came of flights meanwhile, where one takes off or must be waited for."""
        crew = self._crew_of(batch.lane)
        crew.collect(batch, self._now() + self._max_age)
        decided = Decided()
        if any(queue.is_full for queue in crew.queues):
            decided.add(self._land_those_there())
            self._send_full(crew)
            while self._is_brimming and self._is_any_away:
                self._wait_for_an_answer()
                decided.add(self._land_those_there())
                for each in self._crews:
                    self._send_full(each)
        self._tell_room()
        return decided

    def restore(self, lane: str, parts: list[Part]) -> None:
        """Take what a snapshot held. Nothing takes off yet: there is nowhere to tell of it."""
        if parts:
            self._crew_of(lane).collect(LaneBatch(lane, parts, []), self._now())

    def look(self) -> Decided:
        """Answer what has landed, and write the window if it is old enough.

        While a crew is away the load is heavy: what is normal waits for more of its kind, but not for long.
        """
        decided = self._land_those_there()
        if not self._is_left_undecided:
            for crew in self._crews:
                self._send_full(crew)
            if self._is_any_away:
                self._send_old(decided)
            elif (closes_at := self._closes_at) is not None and closes_at <= self._now():
                self._close(decided)
        self._tell_room()
        return decided

    def close(self) -> Decided:
        """Write all that is left, and wait for it. What a stop leaves undecided stays pending."""
        decided = self._land_all()
        while any(crew.closes_at is not None for crew in self._crews) and not self._is_left_undecided:
            self._close(decided)
            decided.add(self._land_all())
        self._tell_room()
        return decided

    def look_at(self) -> datetime | None:
        """When it should be looked at again; ``None`` while nothing is pending."""
        return self._now() + _LOOK_AGAIN_AFTER if self._is_any_away else self._closes_at

    def pending(self, lane: str) -> list[Part]:
        """The lane's parts that are not known to be in the copy."""
        return self._crew_of(lane).pending(lane)

    def _close(self, decided: Decided) -> None:
        if self._pending_changes >= POOLED_BELOW or self._pending_bytes > POOLED_MAX_BYTES:
            for crew in self._crews:
                for queue in crew.queues:
                    self._send(crew, queue)
                if not crew.is_away:
                    decided.watermarks += crew.passed()
            return
        handed_over = [(crew, crew.hand_over()) for crew in self._crews]
        lanes = [of_lane for _, parts in handed_over for of_lane in parts.values()]
        told, undecided = do(self._decide(chain.from_iterable(lanes)))
        decided.add(told)
        now = self._now()
        for crew, parts in handed_over:
            own = [part for part in undecided if self._crew_of(lane_of(part.document_id)) is crew]
            decided.watermarks += crew.settle(parts, own, now)

    def _send_old(self, decided: Decided) -> None:
        now = self._now()
        # Where little waits it is soon written together: many small requests slow each other down.
        patience = timedelta() if self._pending_changes >= POOLED_BELOW else LONGEST_WAIT
        for crew in self._crews:
            if crew.critical.is_old(now - patience):
                self._send(crew, crew.critical)
            if crew.normal.is_old(now - LONGEST_WAIT):
                self._send(crew, crew.normal)
                if not crew.is_away:
                    decided.watermarks += crew.passed()

    def _send_full(self, crew: Crew) -> None:
        for queue in crew.queues:
            if queue.is_full:
                self._send(crew, queue)

    def _send(self, crew: Crew, queue: Queue) -> None:
        if queue.flight is not None or (queue is crew.normal and self._are_normal_ones_in_the_way):
            return
        crew.take_off(queue, lambda parts: Underway(self._decide(parts), self._threads), self._now())

    @property
    def _are_normal_ones_in_the_way(self) -> bool:
        """Whether one more normal flight would only make critical ones wait longer for the store."""
        return any(crew.critical.waiting or crew.critical.flight is not None for crew in self._crews) and (
            sum(crew.normal.flight is not None for crew in self._crews) >= NORMAL_BESIDE_CRITICAL
        )

    def _land_those_there(self) -> Decided:
        """What has come of flights that are over; the others get as far as they can without waiting."""
        decided = Decided()
        for crew in self._crews:
            for queue in crew.queues:
                if (flight := queue.flight) is not None:
                    flight.work.go_on()
                    if flight.work.is_done:
                        decided.add(crew.land(queue, flight, self._now()))
        return decided

    def _wait_for_an_answer(self) -> None:
        queues = [queue for crew in self._crews for queue in crew.queues]
        answers = [queue.flight.work.answer for queue in queues if queue.flight is not None]
        wait([answer for answer in answers if answer is not None], return_when=FIRST_COMPLETED)

    def _land_all(self) -> Decided:
        decided = self._land_those_there()
        while self._is_any_away:
            self._wait_for_an_answer()
            decided.add(self._land_those_there())
        return decided

    def _tell_room(self) -> None:
        flights = 2 * sum(crew.normal.pace.fitting for crew in self._crews)
        self._room.tell(
            flights - sum(crew.pending_normal for crew in self._crews),
            PENDING_MAX_BYTES - self._pending_bytes,
        )

    @property
    def _is_brimming(self) -> bool:
        return self._pending_changes >= self._brim or self._pending_bytes >= BRIM_BYTES

    @property
    def _pending_changes(self) -> int:
        return sum(crew.pending_changes for crew in self._crews)

    @property
    def _pending_bytes(self) -> int:
        return sum(crew.pending_bytes for crew in self._crews)

    @property
    def _closes_at(self) -> datetime | None:
        return min((crew.closes_at for crew in self._crews if crew.closes_at is not None), default=None)

    @property
    def _is_left_undecided(self) -> bool:
        return any(crew.is_left_undecided for crew in self._crews)

    @property
    def _is_any_away(self) -> bool:
        return any(crew.is_away for crew in self._crews)

    def _crew_of(self, lane: str) -> Crew:
        return self._crews[int(lane) % CREWS]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)
