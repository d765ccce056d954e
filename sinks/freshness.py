"""Up to when a copy has everything: the lowest watermark of each owner that went through the whole flow.

A lane's watermark says that all of the lane's changes from before it are in the copy, and that stays true
whatever happens to the process. So each lane's last word is kept where readers look, in PostgreSQL and in
Redis, and the lowest of all lanes is what they are told: after a restart, while a target is away, and with
lanes spread over several processes. Until every lane has spoken nothing is told.
"""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from threading import Lock
from typing import Any

from prometheus_client import Gauge
from redis import Redis

from syncline.clock import Clock, system_clock_us
from syncline.model.cache import freshness_key

FRESHNESS = Gauge(
    "syncline_freshness_seconds",
    "Age of the time up to which everything of the owner that this process is given is in the copy.",
    ["flow", "owner"],
)

ByLane = dict[str, int]
"""Microseconds since the epoch, by lane."""

_TELL_REDIS = """
for i = 2, #ARGV, 3 do
    redis.call('HSET', KEYS[2], ARGV[i] .. '/' .. ARGV[i + 1], ARGV[i + 2])
end
local count, lowest = {}, {}
local lanes = redis.call('HGETALL', KEYS[2])
for i = 1, #lanes, 2 do
    local owner = string.match(lanes[i], '^(.*)/')
    count[owner] = (count[owner] or 0) + 1
    if not lowest[owner] or tonumber(lanes[i + 1]) < tonumber(lowest[owner]) then
        lowest[owner] = lanes[i + 1]
    end
end
for owner, as_of_us in pairs(lowest) do
    if count[owner] == tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], owner, as_of_us) end
end
"""


class Freshness:
    """What the lanes of this process have said. Thread-safe."""

    def __init__(
        self,
        flow: str,
        owners: Mapping[str, str],
        partition_counts: Callable[[], Mapping[str, int]],
        lanes: Collection[str],
        clock: Clock = system_clock_us,
    ) -> None:
        """``owners`` and ``partition_counts`` go by topic, and say which watermarks a lane must have met."""
        self.flow = flow
        self._owners = owners
        self._partition_counts = partition_counts
        self._lane_count = len(lanes)
        self._reached: dict[str, ByLane] = {}
        """By partition of the log."""
        self._clock = clock
        self._lock = Lock()
        for owner in set(owners.values()):
            FRESHNESS.labels(flow, owner).set_function(partial(self._seconds, owner))

    def reached(self, lane: str, partition: str, time_us: int) -> None:
        """All of this partition (``TOPIC/NUMBER``) that was committed before this time and is of this lane is
        in the copy."""
        with self._lock:
            lanes = self._reached.setdefault(partition, {})
            # Lanes are told of in the order of their names, which need not be that of time.
            lanes[lane] = max(time_us, lanes.get(lane, 0))

    def by_owner(self) -> dict[str, ByLane]:
        """Of each owner the lowest watermark of each lane, where the lane has met one of every partition."""
        with self._lock:
            reached = {partition: dict(lanes) for partition, lanes in self._reached.items()}
        if not reached:
            return {}
        partitions: dict[str, list[ByLane]] = {}
        for topic, count in self._partition_counts().items():
            if topic in self._owners:
                of_owner = partitions.setdefault(self._owners[topic], [])
                of_owner += [reached.get(f"{topic}/{number}", {}) for number in range(count)]
        lowest = {
            owner: {
                lane: min(lanes[lane] for lanes in of_owner)
                for lane in set.intersection(*(set(lanes) for lanes in of_owner))
            }
            for owner, of_owner in partitions.items()
        }
        return {owner: lanes for owner, lanes in lowest.items() if lanes}

    def rows(self) -> list[dict[str, Any]]:
        """For ``sync.freshness``."""
        return [
            {"flow": self.flow, "owner": owner, "lanes": lanes, "lane_count": self._lane_count}
            for owner, lanes in self.by_owner().items()
        ]

    def tell_redis(self, redis: Redis) -> None:
        """Bring ``syncline:freshness:FLOW`` up to date: by owner, in microseconds since the epoch."""
        key = freshness_key(self.flow)
        told = [
            word
            for owner, lanes in self.by_owner().items()
            for lane, time_us in lanes.items()
            for word in (owner, lane, time_us)
        ]
        if told:
            redis.eval(_TELL_REDIS, 2, key, f"{key}:lanes", self._lane_count, *told)
        else:
            redis.ping()

    def _seconds(self, owner: str) -> float:
        """For Prometheus; not a number while it is not known."""
        lanes = self.by_owner().get(owner)
        return max(0, self._clock() - min(lanes.values())) / 1e6 if lanes else math.nan
