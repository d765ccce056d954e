"""The apply step over a store in memory, and what it told in few words."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from operators.apply import LaneLogic, Lookout
from operators.calls import do
from operators.copy_watch import CopyWatch
from operators.decide import Decide, Result
from operators.deliver import Deliver
from operators.lanes import LaneBatch, lane_of
from operators.window import Window
from syncline.model.change import Watermark
from syncline.model.decision import Decided, Decision
from syncline.model.document import Document
from syncline.model.part import Part
from syncline.policies.search_document import SearchDocument
from syncline.room import Room
from tests.changes import SEARCH
from tests.memory_store import MemoryStore
from tests.operators.simulation import ManualClock, NoWait


def refuses_666(document: Document) -> str | None:
    prices, warehouses = document["prices"].values(), document["stock"]["by_warehouse"].values()
    if any(price["list_e4"] == 6_660_000 for price in prices):
        return "no such price"
    return "no such stock" if any(each["on_hand"] == 666 for each in warehouses) else None


class Bench:
    """The apply step of one worker."""

    def __init__(self, max_changes: int = 1_000, critical: Collection[str] = ()) -> None:
        self.store = MemoryStore(refuses_666)
        self.clock = ManualClock()
        self.stop = NoWait()
        deliver = Deliver(self.store, 1 << 20, self.stop.circuit)
        self.decide = Decide(SearchDocument(), SEARCH.rules, deliver, self.clock)
        self.room = Room()
        max_age = timedelta(milliseconds=5)
        self.lookout = Lookout()
        self.window = Window(self.decide, max_changes, max_age, self.clock, critical, self.room)

    def lane(self, state: dict[str, object] | None = None) -> LaneLogic:
        return LaneLogic(self.window, CopyWatch(self.store.identity, self.clock), self.lookout, state)

    def apply(self, parts: Iterable[Part]) -> Result:
        return do(self.decide(parts))

    def seed(self, *parts: Part) -> None:
        """Bring parts into the store without a trace in this worker's working set."""
        deliver = Deliver(self.store, 0, NoWait().circuit)
        do(Decide(SearchDocument(), SEARCH.rules, deliver, self.clock)(parts))
        self.store.reads.clear()
        self.store.writes.clear()

    @property
    def written(self) -> list[list[str]]:
        """The ids of each call of ``write``."""
        return [[write.document_id for write in call] for call in self.store.writes]


def batch(part: Part, *watermarks: Watermark) -> LaneBatch:
    return LaneBatch(lane_of(part.document_id), [part], list(watermarks))


def decisions(*told: Decided) -> list[tuple[str, int, Decision]]:
    return [
        (part.entity, part.version.row, decision)
        for decided in told
        for applied in decided.applied
        for part, decision, _, _ in applied.verdicts
    ]
