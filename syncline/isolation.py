"""Finding the one change that kills a flow, from what its processes leave behind when they die.

A process that was given a run folder keeps a journal in it of what it has handed on and does not know to be
done. What two deaths in a row have in common there is suspect. The suspects are handed on in ever smaller
portions, each by itself, until one of them is alone when the process dies, twice. That one is poison, and
goes to quarantine.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from syncline.last_words import own_run_folder
from syncline.model.message import Message

PORTIONS = 64
"""Into so many the suspects are divided, from one death to the next."""
_JOURNAL = "handed_on.json"
_PLAN = "isolation.json"


class Span(Struct, frozen=True, array_like=True):
    """Offsets of one partition, from ``begin`` to before ``end``."""

    topic: str
    partition: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def holds(self, message: Message) -> bool:
        return (
            message.topic == self.topic
            and message.partition == self.partition
            and self.begin <= message.offset < self.end
        )


class Journal(Struct, frozen=True):
    """What a process has handed on and does not know to be done. ``fingerprint`` is that of the only one,
    where it is handed on by itself; ``is_resuming`` while nothing is, so that what a snapshot held is done
    first."""

    spans: tuple[Span, ...] = ()
    fingerprint: str | None = None
    is_resuming: bool = False


class Poison(Struct, frozen=True):
    """A message that kills the flow, and how."""

    topic: str
    partition: int
    offset: int
    fingerprint: str
    error: str


class Plan(Struct, frozen=True):
    """What the next process is to do: hand on the suspects in portions, and poison not at all."""

    suspects: tuple[Span, ...] = ()
    poison: tuple[Poison, ...] = ()


def fingerprint(message: Message) -> str:
    """Tells a message from another one at the same place, in a topic that was made anew."""
    return blake2b(message.value or b"", key=(message.key or b"")[:64], digest_size=16).hexdigest()


def common(left: Iterable[Span], right: Iterable[Span]) -> tuple[Span, ...]:
    """What lies in both."""
    return tuple(_common(left, tuple(right)))


def _common(left: Iterable[Span], right: Sequence[Span]) -> Iterator[Span]:
    for one in left:
        for other in right:
            begin, end = max(one.begin, other.begin), min(one.end, other.end)
            if (one.topic, one.partition) == (other.topic, other.partition) and begin < end:
                yield Span(one.topic, one.partition, begin, end)


def count(spans: Iterable[Span]) -> int:
    return sum(map(len, spans))


class Isolation:
    """What is known of a poison change, from one death of its flow to the next."""

    def __init__(self, poison: Iterable[Poison] = ()) -> None:
        self.suspects: tuple[Span, ...] = ()
        """Not empty while one is looked for."""
        self.poison = tuple(poison)
        self.is_in_snapshot = False
        """It died before it was handed anything: what kills it comes out of its recovery folder."""
        self._last: tuple[Span, ...] = ()

    @property
    def plan(self) -> Plan:
        return Plan(self.suspects, self.poison)

    def died(self, error: str, journals: Sequence[Journal]) -> Poison | None:
        """Of an error that a change may have caused. Answers the poison where it is found."""
        self.is_in_snapshot = any(journal.is_resuming for journal in journals)
        left = tuple(span for journal in journals for span in journal.spans)
        if not self.suspects:
            self.suspects, self._last = common(self._last, left), left
            return None
        still = common(self.suspects, left)
        if count(still) == count(self.suspects) == 1:
            [span] = still
            prints = [journal.fingerprint for journal in journals if journal.fingerprint is not None]
            if len(prints) == 1:
                found = Poison(span.topic, span.partition, span.begin, prints[0], error)
                self.poison = (*self.poison, found)
                self.suspects, self._last = (), ()
                return found
        # With none in common it was no change that was handed on: the search is over.
        self.suspects, self._last = still, left
        return None


class JournalFile:
    """The journal of this process, written before what it speaks of is handed on.

    It outlives the process, though not the machine: none of it is flushed to disk.
    """

    def __init__(self, run_folder: Path) -> None:
        self._file = os.open(run_folder / _JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._written = 0

    def write(self, journal: Journal) -> None:
        # JSON may end in blanks: so one call replaces the text before, whatever its length.
        text = encode(journal).ljust(self._written)
        os.pwrite(self._file, text, 0)
        self._written = len(text)

    def close(self) -> None:
        os.close(self._file)


_journals, _plans = Decoder(Journal), Decoder(Plan)


def read_journal(run_folder: Path) -> Journal:
    """Of a process that has ended."""
    try:
        return _journals.decode((run_folder / _JOURNAL).read_bytes())
    except (FileNotFoundError, DecodeError):
        return Journal()


def forget_journal(run_folder: Path) -> None:
    (run_folder / _JOURNAL).unlink(missing_ok=True)


def write_plan(flow_folder: Path, plan: Plan) -> None:
    flow_folder.mkdir(parents=True, exist_ok=True)
    unfinished = flow_folder / f"{_PLAN}.new"
    unfinished.write_bytes(encode(plan))
    unfinished.replace(flow_folder / _PLAN)


def read_plan(flow_folder: Path) -> Plan:
    """Raises ``msgspec.DecodeError`` where it is not whole."""
    try:
        return _plans.decode((flow_folder / _PLAN).read_bytes())
    except FileNotFoundError:
        return Plan()


def own_plan() -> Plan:
    """That of this process, from whoever started it."""
    folder = own_run_folder()
    return Plan() if folder is None else read_plan(folder.parent)
