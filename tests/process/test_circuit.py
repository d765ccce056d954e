"""The circuit of a target: when calls are made while it is away, and what can be seen of it."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from syncline.asking import Asking
from syncline.circuit import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    REDIS_LONGEST_WAIT_SECONDS,
    Circuit,
    Circuits,
    CircuitState,
)
from syncline.model.errors import MissingResource, Overloaded, Unavailable
from syncline.stopping import Stop
from tests.changes import NOON_US
from tests.waiting import eventually

NOON = datetime.fromtimestamp(NOON_US / 1e6, UTC)
AWAY = Unavailable("the server does not answer")
CLOSED, HALF_OPEN, OPEN = CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN


class Time(Stop):
    """Passes while somebody waits, and only then."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)

    def __call__(self) -> float:
        return sum(self.waits)

    def clock(self) -> int:
        return NOON_US + round(self() * 1e6)


@pytest.fixture
def time_passing() -> Time:
    return Time()


@pytest.fixture
def circuit(time_passing: Time, request: pytest.FixtureRequest) -> Circuit:
    return Circuit(request.node.name, time_passing, clock=time_passing.clock, monotonic_seconds=time_passing)


def failing(error: Exception, times: int) -> tuple[Callable[[], str], list[None]]:
    """A call that fails so often, and how often it was made."""
    calls: list[None] = []

    def call() -> str:
        calls.append(None)
        if len(calls) <= times:
            raise error
        return "done"

    return call, calls


def metric(name: str, circuit: Circuit) -> float | None:
    return REGISTRY.get_sample_value(name, {"target": circuit.target})


def test_a_call_is_made_until_it_is_answered(circuit: Circuit) -> None:
    call, calls = failing(AWAY, 3)
    assert circuit.hold_place("asking")(call) == "done"
    assert len(calls) == 4
    assert (circuit.state, circuit.is_holding) == (CLOSED, False)


@pytest.mark.parametrize("error", [MissingResource(), ValueError("bug")])
def test_what_is_not_the_target_s_absence_is_not_tried_again(circuit: Circuit, error: Exception) -> None:
    call, calls = failing(error, 1)
    with pytest.raises(type(error)):
        circuit.hold_place("asking")(call)
    assert len(calls) == 1
    assert circuit.state is CLOSED


def test_waits_grow_at_random_up_to_a_bound() -> None:
    longest = [0.0] * 12
    for _ in range(200):
        passing = Time()
        call, _ = failing(Unavailable(), 12)
        Circuit("waits", passing, monotonic_seconds=passing).hold_place("asking")(call)
        longest = [max(pair) for pair in zip(longest, passing.waits, strict=True)]
    for number, seconds in enumerate(longest):
        bound = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**number)
        assert bound / 2 < seconds <= bound, "evenly from 0 to the bound"


def test_of_redis_no_wait_is_long() -> None:
    passing = Time()
    for _ in range(40):
        circuit = Circuits(passing).redis
        circuit._monotonic_seconds = passing
        call, _ = failing(Unavailable(), 30)
        circuit.hold_place("removing")(call)
    assert REDIS_LONGEST_WAIT_SECONDS / 2 < max(passing.waits) <= REDIS_LONGEST_WAIT_SECONDS


def test_an_outage_of_days_is_no_number_too_large(circuit: Circuit) -> None:
    call, _ = failing(AWAY, 2_000)
    assert circuit.hold_place("asking")(call) == "done"


def test_a_stop_ends_the_wait_at_once_and_raises_what_was_wrong() -> None:
    stop = Stop()
    calls: list[None] = []

    def call() -> None:
        if len(calls) == 3:
            stop.request()
        calls.append(None)
        raise AWAY

    circuit = Circuit("stopped", stop)
    with pytest.raises(Unavailable, match="does not answer"):
        circuit.hold_place("asking")(call)
    assert len(calls) == 4
    with pytest.raises(Unavailable, match="stopped is waited for: the server does not answer"):
        circuit.hold_place("asking")(call)
    assert len(calls) == 4, "nobody knocks again at a door that was just shut"


def test_it_goes_from_closed_by_open_and_half_open_to_closed(circuit: Circuit, time_passing: Time) -> None:
    seen = [circuit.state]

    def fail() -> None:
        seen.append(circuit.state)
        raise AWAY

    for _ in range(2):
        with pytest.raises(Unavailable):
            circuit.attempt(fail)
        seen.append(circuit.state)
        time_passing.wait(circuit.wait_seconds)
    assert circuit.attempt(lambda: circuit.state) is HALF_OPEN
    seen.append(circuit.state)
    assert seen == [CLOSED, CLOSED, OPEN, HALF_OPEN, OPEN, CLOSED]


def test_while_it_is_open_an_attempt_is_refused_at_once(circuit: Circuit, time_passing: Time) -> None:
    call, calls = failing(AWAY, 1)
    with pytest.raises(Unavailable) as first:
        circuit.attempt(call)
    assert first.value is AWAY
    for _ in range(3):
        with pytest.raises(Unavailable, match="is waited for: the server does not answer"):
            circuit.attempt(call)
    assert len(calls) == 1
    assert time_passing.waits == []
    time_passing.wait(circuit.wait_seconds)
    assert circuit.attempt(call) == "done"


def test_since_when_and_why_it_is_open_does_not_change_with_each_probe(
    circuit: Circuit, time_passing: Time
) -> None:
    time_passing.wait(60)
    opened = NOON + timedelta(seconds=60)
    for error in (AWAY, Overloaded("too many requests")):
        with pytest.raises(Unavailable):
            circuit.attempt(failing(error, 1)[0])
        assert (circuit.since, type(circuit.last_error)) == (opened, type(error))
        assert str(circuit.last_error) == str(error)
        time_passing.wait(circuit.wait_seconds)
    time_passing.wait(60)
    circuit.attempt(lambda: None)
    assert circuit.since == datetime.fromtimestamp(time_passing.clock() / 1e6, UTC)
    assert circuit.since > opened
    assert isinstance(circuit.last_error, Overloaded), "what was wrong last is still of interest"


def test_only_one_of_several_threads_tries_whether_the_target_is_back() -> None:
    """Four crews hold their places: while one asks, the others do not."""
    circuit = Circuit("crews", Stop(), longest_wait_seconds=0.02)
    lock = threading.Lock()
    under_way: list[int] = [0]
    most: list[int] = []
    states: list[CircuitState] = []
    is_back = threading.Event()

    def ask() -> str:
        with lock:
            under_way[0] += 1
            most.append(under_way[0])
            states.append(circuit.state)
        time.sleep(0.01)  # an answer takes a while, in which others could ask
        with lock:
            under_way[0] -= 1
        if not is_back.is_set():
            raise AWAY
        return "done"

    with pytest.raises(Unavailable):
        circuit.attempt(ask)
    most.clear()
    states.clear()
    answers: list[str] = []
    crews = [
        threading.Thread(target=lambda: answers.append(circuit.hold_place("writing")(ask))) for _ in range(4)
    ]
    for crew in crews:
        crew.start()
    eventually(lambda: len(most) >= 20, what="twenty probes")
    with lock:
        probes = len(most)
        assert set(most) == {1}
        assert set(states) == {HALF_OPEN}
    is_back.set()
    for crew in crews:
        crew.join(30)
    assert answers == ["done"] * 4
    # Those that go on after the probe that worked may ask at the same time again.
    assert set(most[: probes + 1]) == {1}


def test_of_calls_that_fail_together_one_counts(circuit: Circuit) -> None:
    """Or four crews would reach the longest wait four times as fast."""
    turns = [circuit.enter() for _ in range(4)]
    for turn in turns:
        assert turn is not None
        with pytest.raises(Unavailable):
            circuit.make(turn, failing(AWAY, 1)[0])
    assert circuit.failures == 1


def test_an_answer_to_a_call_from_before_the_failure_closes_nothing(circuit: Circuit) -> None:
    earlier = circuit.enter()
    assert earlier is not None
    with pytest.raises(Unavailable):
        circuit.attempt(failing(AWAY, 1)[0])
    assert circuit.make(earlier, lambda: "late") == "late"
    assert circuit.state is OPEN


def test_a_refusal_is_an_answer(circuit: Circuit, time_passing: Time) -> None:
    with pytest.raises(Unavailable):
        circuit.attempt(failing(AWAY, 1)[0])
    time_passing.wait(circuit.wait_seconds)
    with pytest.raises(MissingResource):
        circuit.attempt(failing(MissingResource(), 1)[0])
    assert circuit.state is CLOSED


def test_whether_a_place_is_held_is_known(circuit: Circuit) -> None:
    held: list[bool] = []

    def call() -> None:
        held.append(circuit.is_holding)
        if len(held) < 3:
            raise AWAY

    circuit.hold_place("asking")(call)
    assert held == [False, True, True]
    assert not circuit.is_holding
    with pytest.raises(Unavailable):
        circuit.attempt(failing(AWAY, 1)[0])
    assert not circuit.is_holding, "an attempt holds nothing up"


def test_who_waits_in_another_way_tells_of_it(circuit: Circuit) -> None:
    circuit.succeeded()
    circuit.failed(AWAY)
    circuit.failed(AWAY)
    assert (circuit.state, circuit.failures, circuit.is_holding) == (OPEN, 2, True)
    circuit.succeeded()
    assert (circuit.state, circuit.is_holding) == (CLOSED, False)


def test_what_a_target_is_to_the_process_that_asks_it(circuit: Circuit, time_passing: Time) -> None:
    assert tuple(circuit.dependency) == (circuit.target, "up", NOON, "closed", False, None)
    with pytest.raises(Unavailable):
        circuit.attempt(failing(AWAY, 1)[0])
    assert tuple(circuit.dependency) == (circuit.target, "down", NOON, "open", False, str(AWAY))
    time_passing.wait(circuit.wait_seconds)

    def probe() -> None:
        assert circuit.dependency[1:5] == ("down", NOON, "half_open", False), "nothing new is known yet"
        raise Overloaded("too many requests")

    with pytest.raises(Overloaded):
        circuit.attempt(probe)
    assert circuit.dependency[1:] == ("degraded", NOON, "open", False, "too many requests")
    circuit.hold_place("writing")(lambda: None)
    assert circuit.dependency[1:2] + circuit.dependency[5:] == ("up", "too many requests")


def test_whoever_reads_kafka_holds_their_place_whoever_asked_it() -> None:
    kafka = Circuits(Stop()).kafka
    with pytest.raises(Unavailable):
        kafka.attempt(failing(AWAY, 1)[0])
    assert kafka.dependency.holds_place
    kafka.succeeded()
    assert not kafka.dependency.holds_place


def test_prometheus_is_told_of_the_state_and_of_each_opening(circuit: Circuit, time_passing: Time) -> None:
    def state() -> float | None:
        return metric("syncline_circuit_state", circuit)

    assert state() == 0
    for openings in (1, 2):
        for _ in range(2):
            with pytest.raises(Unavailable):
                circuit.attempt(failing(AWAY, 1)[0])
            assert state() == 2
            time_passing.wait(circuit.wait_seconds)
        assert circuit.attempt(state) == 1
        assert state() == 0
        assert metric("syncline_circuit_openings_total", circuit) == openings


def test_holding_and_going_on_are_logged(circuit: Circuit) -> None:
    with capture_logs() as told:
        circuit.hold_place("writing documents")(failing(AWAY, 2)[0])
    assert [(line["event"], line.get("doing"), line.get("attempt")) for line in told] == [
        ("holding the place", "writing documents", 1),
        ("holding the place", "writing documents", 2),
        ("answers again", None, None),
    ]


def test_who_comes_while_it_is_open_says_once_that_they_hold_their_place(circuit: Circuit) -> None:
    with pytest.raises(Unavailable):
        circuit.attempt(failing(AWAY, 1)[0])
    with capture_logs() as told:
        circuit.hold_place("writing documents")(lambda: None)
    assert [(line["event"], line.get("error")) for line in told] == [
        ("holding the place", "the server does not answer"),
        ("answers again", None),
    ]


def test_all_that_ask_one_target_share_its_circuit() -> None:
    circuits = Circuits(Stop())
    assert circuits.postgres is circuits.of("postgres")
    assert circuits.kafka is not circuits.postgres
    assert {circuit.target for circuit in circuits} == {"postgres", "kafka"}


class Batch:
    """What a call is about."""


@pytest.fixture
def no_garbage_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


Ask = Callable[[Callable[[], None]], None]


@pytest.fixture(params=["here", "in a thread"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    asking: Asking = Asking(Stop())
    yield asking if request.param == "in a thread" else lambda call: call()
    asking.close()


@pytest.mark.usefixtures("no_garbage_collected")
def test_what_a_failed_call_was_about_is_let_go_of(circuit: Circuit, ask: Ask) -> None:
    """Clients keep errors in their frames, and errors keep frames."""
    tried: list[weakref.ref[Batch]] = []

    def client(_batch: Batch) -> None:
        refused = ConnectionRefusedError()
        raise refused

    def call() -> None:
        batch = Batch()
        tried.append(weakref.ref(batch))
        try:
            client(batch)
        except ConnectionRefusedError as error:
            away = Unavailable("the server does not answer")
            raise away from error

    with pytest.raises(Unavailable):
        circuit.attempt(ask, call)

    eventually(lambda: tried[0]() is None, what="the end of the batch")


@pytest.mark.usefixtures("no_garbage_collected")
def test_what_was_written_at_last_is_let_go_of_too(circuit: Circuit, ask: Ask) -> None:
    """By the memory of the last error, and by threads that wait for the next call."""
    errors = [Unavailable("the server does not answer")]

    def write(_batch: Batch) -> None:
        if errors:
            raise errors.pop()

    def written() -> "weakref.ref[Batch]":
        batch = Batch()
        circuit.hold_place("writing documents")(ask, partial(write, batch))
        return weakref.ref(batch)

    batch = written()

    assert str(circuit.last_error) == "the server does not answer"
    eventually(lambda: batch() is None, what="the end of the batch")
