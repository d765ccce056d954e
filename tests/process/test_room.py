"""Back-pressure within a worker."""

import threading
from datetime import timedelta

from syncline.room import Pace, Room

AT_MOST = timedelta(milliseconds=100)


def test_an_unknown_room_is_as_large_as_can_be() -> None:
    changes, size_bytes = Room().left
    assert changes > 1 << 40
    assert size_bytes > 1 << 40


def test_each_worker_has_its_own() -> None:
    room = Room()
    room.tell(1, 2)
    other = threading.Thread(target=room.tell, args=(3, 4))
    other.start()
    other.join()
    assert room.left == (1, 2)


def test_there_is_never_less_than_none() -> None:
    room = Room()
    room.tell(-1, -1)
    assert room.left == (0, 0)


def grown() -> Pace:
    pace = Pace(400, 50, AT_MOST)
    pace.took(100, AT_MOST)
    pace.took(200, AT_MOST)
    return pace


def test_it_begins_with_few_and_doubles() -> None:
    assert Pace(400, 50, AT_MOST).fitting == 100
    assert grown().fitting == 400


def test_fewer_fit_while_they_take_long_and_more_again() -> None:
    pace = grown()
    pace.took(400, AT_MOST * 2)
    assert pace.fitting == 200
    pace.took(200, AT_MOST)
    assert pace.fitting == 400
    pace.took(400, AT_MOST / 2)
    assert pace.fitting == 400


def test_a_few_always_do() -> None:
    pace = grown()
    pace.took(400, AT_MOST * 1_000)
    assert pace.fitting == 50


def test_but_no_more_than_there_may_be() -> None:
    pace = Pace(2, 50, AT_MOST)
    pace.took(2, AT_MOST * 10)
    assert pace.fitting == 2


def test_few_tell_nothing_and_half_of_them_nothing_good() -> None:
    pace = grown()
    pace.took(199, AT_MOST * 10)
    pace.took(399, AT_MOST)
    assert pace.fitting == 400
    pace.took(200, AT_MOST * 2)
    assert pace.fitting == 100
