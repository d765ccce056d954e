"""Circuit breakers: whoever asks a target that is away waits, and one at a time tries whether it is back.

Source: M. Nygard, "Release It!", 2nd edition, "Circuit Breaker"; M. Brooker, "Exponential Backoff And
Jitter", 2015. A flow that holds its place reads nothing new meanwhile: the log is the queue, and memory
stays flat.
"""

import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from threading import Lock
from traceback import clear_frames
from typing import ParamSpec, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from syncline.clock import Clock, system_clock_us
from syncline.jitter import JITTER
from syncline.model.dependency import Dependency, DependencyState
from syncline.model.errors import Overloaded, Unavailable
from syncline.stopping import Stop

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 10.0
REDIS_LONGEST_WAIT_SECONDS = 0.5
_DOUBLINGS = 20
"""More of them lead beyond any longest wait."""
_LOOK_SECONDS = 0.05
"""How often those who wait for another one's probe look what came of it."""

P = ParamSpec("P")
T = TypeVar("T")

_log = structlog.get_logger()


class CircuitState(StrEnum):
    """``closed``: every call is made. ``open``: none is. ``half_open``: one is, the others wait."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


STATE = Gauge(
    "syncline_circuit_state", "The circuit of a target: 0 is closed, 1 half open, 2 open.", ["target"]
)
OPENINGS = Counter("syncline_circuit_openings", "How often a circuit that was closed opened.", ["target"])
HELD = Gauge("syncline_place_held", "Whether a flow holds its place for a target: 1 if so.", ["target"])
_NUMBERS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class Circuit:
    """What the callers of one target in this process share. Thread-safe.

    ``Unavailable`` opens it. Then no call is made for a time that is drawn evenly from 0 to
    ``0.1 s * 2**(n - 1)``, at most ``longest_wait_seconds``, where n counts failures in a row. The first
    call after it is the probe, which closes the circuit or opens it again. Any other answer, a refusal too,
    says that the target is there.
    """

    def __init__(
        self,
        target: str,
        stop: Stop,
        longest_wait_seconds: float = LONGEST_WAIT_SECONDS,
        *,
        always_holds: bool = False,
        clock: Clock = system_clock_us,
        monotonic_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.stop = stop
        self.state = CircuitState.CLOSED
        self.since = datetime.fromtimestamp(clock() / 1e6, UTC)
        """When it was closed, or ceased to be: a probe that fails does not change it."""
        self.last_error: Unavailable | None = None
        self.is_holding = False
        """Whether a place is held for the target; where ``always_holds`` nothing goes on without it."""
        self._always_holds = always_holds
        self._longest_wait_seconds = longest_wait_seconds
        self._clock = clock
        self._monotonic_seconds = monotonic_seconds
        self._lock = Lock()
        self._turn = 0
        """Goes up with each failure, so that calls that were begun before it are known when they end."""
        self._failures = 0
        self._probe_at = 0.0
        self._become(CircuitState.CLOSED)

    def hold_place(self, doing: str) -> "HeldPlace":
        """Makes a call until it is answered; ``doing`` is for the log. See :class:`HeldPlace`."""
        return HeldPlace(self, doing)

    def attempt(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call, unless the circuit is open: then ``Unavailable`` is raised at once."""
        turn = self.enter()
        if turn is None:
            raise self.away()
        return self.make(turn, call, *args, **kwargs)

    def failed(self, error: Unavailable) -> None:
        """Told by whoever waits for the target in a way of their own, and holds their place meanwhile."""
        self._fail(self._turn, error, holding=True)

    def succeeded(self) -> None:
        """Told by the same, when the target has answered."""
        if self.state is not CircuitState.CLOSED:
            self._answer(self._turn)

    def enter(self, *, holding: bool = False) -> int | None:
        """The turn of a call that may be made now, perhaps as the probe; ``None`` while none may be."""
        with self._lock:
            if self.state is not CircuitState.CLOSED:
                if holding:
                    self._hold()
                if self.state is CircuitState.HALF_OPEN or self._monotonic_seconds() < self._probe_at:
                    return None
                self._become(CircuitState.HALF_OPEN)
            return self._turn

    def make(self, turn: int, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call, and draw the conclusions."""
        try:
            answer = call(*args, **kwargs)
        except Unavailable as error:
            _let_go_of_what_was_tried(error)
            self._fail(turn, error)
            raise
        except BaseException:
            self._answer(turn)
            raise
        self._answer(turn)
        return answer

    def away(self) -> Unavailable:
        return Unavailable(f"{self.target} is waited for: {self.last_error}")

    @property
    def failures(self) -> int:
        """In a row, as far as they count: of calls under way at the same time only the first does."""
        return self._failures

    @property
    def wait_seconds(self) -> float:
        """Until it is worth while to look again."""
        if self.state is CircuitState.HALF_OPEN:
            return _LOOK_SECONDS
        return max(0.0, self._probe_at - self._monotonic_seconds())

    def _fail(self, turn: int, error: Unavailable, *, holding: bool = False) -> None:
        with self._lock:
            if turn != self._turn:
                return
            self._turn += 1
            if self._failures == 0:
                OPENINGS.labels(self.target).inc()
                self.since = self._now()
            self._failures += 1
            # Without its traceback, which ends in frames of callers that still have what they tried.
            self.last_error = copy(error)
            bound = min(
                self._longest_wait_seconds, FIRST_WAIT_SECONDS * 2 ** min(self._failures - 1, _DOUBLINGS)
            )
            self._probe_at = self._monotonic_seconds() + JITTER.uniform(0, bound)
            self._become(CircuitState.OPEN)
            if holding or self._always_holds:
                self._hold()

    def _answer(self, turn: int) -> None:
        with self._lock:
            if turn != self._turn or self._failures == 0:
                return
            opened_at, self.since = self.since, self._now()
            away_seconds = round((self.since - opened_at).total_seconds(), 1)
            self._failures = 0
            self._become(CircuitState.CLOSED)
        _log.info("answers again", target=self.target, away_seconds=away_seconds)

    @property
    def dependency(self) -> Dependency:
        """How the target is, as far as this process knows.

        While it is probed nothing new is known of it, so a target that is down is down until it answers.
        """
        state = DependencyState.DOWN
        if self.state is CircuitState.CLOSED:
            state = DependencyState.UP
        elif isinstance(self.last_error, Overloaded):
            state = DependencyState.DEGRADED
        error = None if self.last_error is None else str(self.last_error)
        return Dependency(self.target, state, self.since, self.state, self.is_holding, error)

    def _hold(self) -> None:
        self.is_holding = True
        HELD.labels(self.target).set(1)

    def _become(self, state: CircuitState) -> None:
        self.state = state
        if state is CircuitState.CLOSED:
            self.is_holding = False
            HELD.labels(self.target).set(0)
        STATE.labels(self.target).set(_NUMBERS[state])

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)


def _let_go_of_what_was_tried(error: BaseException) -> None:
    """An error keeps the frames that it passed, with all that they hold, and clients' frames keep the error:
    a batch of documents for each try, until the garbage is collected."""
    link: BaseException | None = error
    while link is not None:
        clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__


@dataclass(frozen=True, slots=True)
class HeldPlace:
    """Holding the place in the log while a target is away."""

    circuit: Circuit
    doing: str

    def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call until it raises no ``Unavailable`` any more, or a stop is requested."""
        circuit = self.circuit
        is_told = False
        while True:
            turn = circuit.enter(holding=True)
            if turn is None:
                if circuit.stop.requested:
                    raise circuit.away()
                if not is_told:
                    self._tell()
                    is_told = True
                circuit.stop.wait(circuit.wait_seconds)
                continue
            try:
                return circuit.make(turn, call, *args, **kwargs)
            except Unavailable:
                if circuit.stop.requested:
                    raise
                self._tell()
                is_told = True

    def _tell(self) -> None:
        circuit = self.circuit
        _log.warning(
            "holding the place",
            target=circuit.target,
            doing=self.doing,
            attempt=circuit.failures,
            error=str(circuit.last_error),
        )


class Circuits:
    """The circuits of a process, by target: all that call the same one share its circuit."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self._circuits: dict[str, Circuit] = {}

    def of(
        self, target: str, longest_wait_seconds: float = LONGEST_WAIT_SECONDS, *, always_holds: bool = False
    ) -> Circuit:
        """The circuit of the target, made where there is none; to be called while the flow is built."""
        if target not in self._circuits:
            self._circuits[target] = Circuit(
                target, self.stop, longest_wait_seconds, always_holds=always_holds
            )
        return self._circuits[target]

    @property
    def elasticsearch(self) -> Circuit:
        return self.of("elasticsearch")

    @property
    def postgres(self) -> Circuit:
        return self.of("postgres")

    @property
    def kafka(self) -> Circuit:
        """Whoever reads it has nothing else to do."""
        return self.of("kafka", always_holds=True)

    @property
    def redis(self) -> Circuit:
        """Never waited for long: what is stale must leave the cache within a second of its return."""
        return self.of("redis", REDIS_LONGEST_WAIT_SECONDS)

    def __iter__(self) -> Iterator[Circuit]:
        return iter(list(self._circuits.values()))

    def dependencies(self) -> list[Dependency]:
        return [circuit.dependency for circuit in self]
