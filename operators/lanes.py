"""Grouping what comes by document into a fixed number of lanes, the keys of the stateful step.

A snapshot costs as many entries as there are lanes, however many documents there are.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast
from zlib import crc32

from syncline.model.change import Watermark
from syncline.model.part import Part

LANES = tuple(f"{number:02}" for number in range(16))
"""Fixed: a snapshot is found again by its lane."""


def lane_of(document_id: str) -> str:
    return LANES[crc32(document_id.encode()) % len(LANES)]


class LaneBatch(NamedTuple):
    """What one batch of the source holds for one lane."""

    lane: str
    parts: list[Part]
    watermarks: list[Watermark]


def group_by_lane(items: Iterable[Part | Watermark]) -> Iterator[tuple[str, LaneBatch]]:
    """Parts go to their document's lane; a watermark speaks for all lanes."""
    parts: defaultdict[str, list[Part]] = defaultdict(list)
    watermarks: list[Watermark] = []
    for item in items:
        if type(item) is Part:
            parts[lane_of(item.document_id)].append(item)
        else:
            watermarks.append(cast("Watermark", item))
    for lane in LANES if watermarks else list(parts):
        yield lane, LaneBatch(lane, parts[lane], watermarks)
