"""What people are told of what waits for them, and when.

Ten thousand bad rows are one message: they are counted by what is wrong, and a few stand for all.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

MOST_SECTIONS = 6
MOST_KINDS = 4
"""In one section."""
EXAMPLES = 3
"""Of one kind."""
REASON_MAX_LENGTH = 120
LONGEST_BACKOFF_US = 3_600_000_000


class Source(StrEnum):
    """The table of the schema ``sync`` that something waits in."""

    QUARANTINE = "quarantine"
    RETRIES = "retries"
    REVIEWS = "reviews"
    OVERDUE_REFERENCES = "overdue_references"
    CONFLICTS = "conflicts"


_NOUNS = {
    Source.QUARANTINE: ("change in quarantine", "changes in quarantine"),
    Source.RETRIES: ("change that no retry got in", "changes that no retry got in"),
    Source.REVIEWS: ("open review", "open reviews"),
    Source.OVERDUE_REFERENCES: ("overdue reference", "overdue references"),
    Source.CONFLICTS: ("conflict that the known side won", "conflicts that the known side won"),
}


class Example(NamedTuple):
    """``entity_id`` is ``None`` where the message was never decoded, ``reason`` where none is on record."""

    row_id: int
    entity_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of one kind are new, of one entity type or (where it is not known) of one topic."""

    source: Source
    entity_type: str | None
    topic: str | None
    kind: str
    """The class of the error, the kind of the conflict, what never came."""
    field: str
    """That is at fault or in question; empty where none is named."""
    count: int
    examples: Sequence[Example]


class Message(NamedTuple):
    title: str
    body: str


def word(
    tallies: Sequence[Tally], personal: Collection[str], topic_types: dict[str, str], since: datetime | None
) -> Message:
    """One message on all of it.

    Of the entity types ``personal`` it shows ids and no values, also where a message on their topic was never
    decoded (``topic_types``: the entity type by topic). ``since`` is when the recipient was last told.
    """
    sections: defaultdict[tuple[Source, str | None, str | None], list[Tally]] = defaultdict(list)
    for tally in tallies:
        sections[tally.source, tally.entity_type, tally.topic].append(tally)
    ordered = sorted(
        sections.items(), key=lambda section: (list(Source).index(section[0][0]), -_total(section[1]))
    )
    lines = ["Open now:" if since is None else f"New since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC:"]
    for (source, entity_type, topic), kinds in ordered[:MOST_SECTIONS]:
        may_show_values = (entity_type or topic_types.get(topic or "")) not in personal
        lines += ["", *_section(source, entity_type, topic, kinds, may_show_values=may_show_values)]
    if left_out := ordered[MOST_SECTIONS:]:
        others = [tally for _, kinds in left_out for tally in kinds]
        lines += ["", f"And {_totals(others)} of other entities or topics."]
    return Message(f"Syncline: {_totals(tallies)}", "\n".join(lines))


def _section(
    source: Source, entity_type: str | None, topic: str | None, kinds: list[Tally], *, may_show_values: bool
) -> list[str]:
    subject = entity_type or f"not decoded, from {topic}"
    lines = [f"{subject}: {_count(source, _total(kinds))}"]
    by_count = sorted(kinds, key=lambda tally: (-tally.count, tally.kind, tally.field))
    for tally in by_count[:MOST_KINDS]:
        lines.append(f"  {tally.count:,} {', '.join(filter(None, (tally.kind, tally.field)))}, for example:")
        lines += [f"    {_example(example, may_show_values)}" for example in tally.examples[:EXAMPLES]]
    if left_out := by_count[MOST_KINDS:]:
        lines.append(f"  {_total(left_out):,} of {len(left_out):,} other kinds")
    return [*lines, f"  Next: {_next_command(source, entity_type, topic)}"]


def _next_command(source: Source, entity_type: str | None, topic: str | None) -> str:
    if source is Source.QUARANTINE:
        return f"syncline quarantine list {f'--entity {entity_type}' if entity_type else f'--topic {topic}'}"
    if source is Source.RETRIES:
        return f"syncline retries list --state escalated --entity {entity_type}"
    if source is Source.OVERDUE_REFERENCES:
        return "syncline references"
    return f"syncline conflicts list{' --open' if source is Source.REVIEWS else ''}"


def _example(example: Example, may_show_values: bool) -> str:
    name = example.entity_id or f"entry {example.row_id}"
    if example.reason is None or not may_show_values:
        return name
    reason = " ".join(example.reason.split())
    if len(reason) > REASON_MAX_LENGTH:
        reason = f"{reason[: REASON_MAX_LENGTH - 3]}..."
    return f"{name} ({reason})"


def _totals(tallies: Iterable[Tally]) -> str:
    totals: defaultdict[Source, int] = defaultdict(int)
    for tally in tallies:
        totals[tally.source] += tally.count
    return ", ".join(_count(source, totals[source]) for source in Source if source in totals)


def _count(source: Source, number: int) -> str:
    return f"{number:,} {_NOUNS[source][number != 1]}"


def _total(tallies: Iterable[Tally]) -> int:
    return sum(tally.count for tally in tallies)


def next_try_us(now_us: int, interval_us: int, failures: int) -> int:
    """When a target may be told again, after so many failures in a row: at the next interval at the
    earliest, and each time after twice as long, up to an hour."""
    backoff_us = min(interval_us << min(max(failures - 1, 0), 32), LONGEST_BACKOFF_US)
    return now_us + max(interval_us, backoff_us)
