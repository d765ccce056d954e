"""What a measurement is: given servers and sizes, it answers figures and everything that it saw."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.figures import Figure
from syncline.settings import Settings

Tell = Callable[[str], None]
"""Says what is going on, for the person who waits."""
Run = dict[str, Any]
"""All that one run measured, raw, with the machine's load."""


@dataclass(frozen=True)
class Sizes:
    """How much, how long and how often."""

    rounds: int
    """Runs of everything that is an absolute figure."""
    alone_changes: int
    drain_changes: int
    rates: tuple[int, ...]
    """Changes a second."""
    seconds: float
    """How long each rate is held, after the warm-up."""
    warm_up_seconds: float
    servers_warm_up_seconds: float
    """Longest wait for the servers' compilers, before all runs of the whole road."""
    live_products: int
    """Products in the index while latency is measured."""
    live_products_levels: tuple[int, ...]
    level_rate: int
    outage_seconds: float
    """How long a server is away."""
    endurance_seconds: float
    overload_products: int
    overload_drain_changes: int
    """From which the sustainable rate is told."""
    overload_seconds: float


class Outcome(NamedTuple):
    figures: Sequence[Figure]
    runs: Sequence[Run]


@dataclass(frozen=True)
class Measurement:
    """``measure`` and its name; ``minutes`` is about how long it takes. A scenario runs where it is named."""

    name: str
    what: str
    measure: Callable[[Settings, Sizes, Tell], Outcome]
    minutes: Callable[[Sizes], float]
    is_scenario: bool = False


@dataclass(frozen=True)
class Suite:
    """The measurements of one flow, in the order in which they run."""

    flow: str
    measurements: Mapping[str, Measurement]
    full: Sizes
    quick: Sizes
