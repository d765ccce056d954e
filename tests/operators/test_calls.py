"""Work yields its calls; whoever drives it makes them, and it goes on with the answers."""

from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event, get_ident

import pytest

from operators.calls import Underway, Work, do
from syncline.model.errors import Unavailable


def fails() -> int:
    raise Unavailable


def sum_of(calls: int) -> Work[int]:
    total = 0
    for number in range(calls):
        total += yield lambda number=number: number  # type: ignore[misc]
    return total


def forgiving() -> Work[str]:
    try:
        yield fails
    except Unavailable:
        return "forgiven"
    return "answered"


def unforgiving() -> Work[None]:
    yield fails


def thread_of_calls_and_of_work() -> Work[tuple[int, int]]:
    called = yield get_ident
    return called, get_ident()


def to_its_end(work: Work[int]) -> int:
    with ThreadPoolExecutor(1) as threads:
        underway = Underway(work, threads)
        while underway.answer is not None:
            wait([underway.answer])
            underway.go_on()
        return underway.result


@pytest.mark.parametrize("drive", [do, to_its_end])
def test_work_gets_the_answer_of_each_call_and_its_result_is_told(drive: object) -> None:
    assert callable(drive)
    assert [drive(sum_of(calls)) for calls in (0, 1, 4)] == [0, 0, 6]


@pytest.mark.parametrize("drive", [do, to_its_end])
def test_the_error_of_a_call_is_the_work_s_to_handle(drive: object) -> None:
    assert callable(drive)
    assert drive(forgiving()) == "forgiven"
    with pytest.raises(Unavailable):
        drive(unforgiving())


def test_calls_are_made_in_another_thread_and_all_else_in_one_s_own() -> None:
    with ThreadPoolExecutor(1) as threads:
        underway = Underway(thread_of_calls_and_of_work(), threads)
        assert underway.answer is not None
        wait([underway.answer])
        underway.go_on()

    called, worked = underway.result
    assert worked == get_ident() != called


def test_it_goes_on_only_when_it_is_told_to_and_only_as_far_as_there_are_answers() -> None:
    may_answer = Event()

    def waiting() -> Work[str]:
        yield may_answer.wait
        return "done"

    with ThreadPoolExecutor(1) as threads:
        underway = Underway(waiting(), threads)
        underway.go_on()
        assert not underway.is_done

        may_answer.set()
        assert underway.answer is not None
        wait([underway.answer])
        assert not underway.is_done

        underway.go_on()
        assert underway.is_done
        assert underway.result == "done"
