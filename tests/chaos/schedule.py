"""Which faults happen when: a pure function of the seed and the duration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from random import Random

SERVERS = ("postgres", "redis", "kafka", "elasticsearch")
COPIES = ("catalog_search", "customer_profiles")
FLOWS = ("outbox_relay", *COPIES)
_SECONDS_BETWEEN = {"server": 30.0, "other": 12.0}
"""From the end of one fault to the next one of its target, on average: a server takes its time to start."""
_FIRST_WITHIN = 0.75
"""Of the whole duration: by then each target has had one."""


@dataclass(frozen=True)
class Fault:
    at_seconds: float
    """After the beginning."""
    seconds: float
    """How long it lasts, at least: a server that was killed takes its time to start."""
    target: str
    """A server, a flow, or the road that the flows take to a server."""
    kind: str

    def __str__(self) -> str:
        return f"at {self.at_seconds:5.1f} s for {self.seconds:4.1f} s: {self.kind} {self.target}"


def road_to(server: str) -> str:
    return f"road to {server}"


_LENGTHS: Mapping[str, tuple[float, float]] = {
    "kill": (0.0, 3.0),
    "pause": (0.5, 4.0),
    "forget": (0.0, 1.0),
    "rival": (1.0, 6.0),
    "usurp": (1.0, 4.0),
    "delay": (1.0, 6.0),
    "cut": (0.0, 3.0),
    "stall": (0.5, 5.0),
    "silence": (0.5, 5.0),
    "half-close near": (0.5, 3.0),
    "half-close far": (0.5, 3.0),
}
"""By kind, the shortest and the longest, in seconds."""

KINDS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(SERVERS, ("kill", "pause")),
    **{
        road_to(server): ("delay", "cut", "stall", "silence", "half-close near", "half-close far")
        for server in SERVERS
    },
    "outbox_relay": ("kill", "pause", "rival", "usurp"),
    **dict.fromkeys(COPIES, ("kill", "kill", "pause", "rival", "forget")),
}
"""What may happen to each target.

``kill`` is kill -9 and a start; ``pause`` is SIGSTOP and SIGCONT. ``rival`` starts a second process of the
flow beside the first, ``usurp`` while the first is paused and its connections are lost, and ``forget`` kills
the flow and deletes its recovery folder. On a road ``delay`` holds up all that passes, ``cut`` breaks the
connections and refuses others, ``stall`` holds everything and then lets it pass, ``silence`` holds everything
and then breaks the connections, and ``half-close`` ends one direction of each connection, towards the flow
(near) or the server (far).
"""


def schedule(seed: int, seconds: float) -> list[Fault]:
    """The faults in the order in which they begin. Each target has one at least, and never two at a time."""
    faults: list[Fault] = []
    for number, (target, kinds) in enumerate(KINDS.items()):
        draw = Random(f"{seed}/{number}")
        kind_of_target = "server" if target in SERVERS else "other"
        at = draw.uniform(0.05, _FIRST_WITHIN) * seconds
        while (begins := round(at, 1)) < seconds:
            kind = draw.choice(kinds)
            lasts = min(draw.uniform(*_LENGTHS[kind]), seconds / 4)
            faults.append(Fault(begins, round(lasts, 1), target, kind))
            at += lasts + draw.expovariate(1 / _SECONDS_BETWEEN[kind_of_target])
    return sorted(faults, key=attrgetter("at_seconds"))
