from typing import Any

from bench.null_store import NullStore
from bench.observed_catalog_search import ObservedStore
from syncline.model.store import Outcome, Write


def test_the_store_is_observed_and_its_answers_stay_as_they_are() -> None:
    seen: list[dict[str, Any]] = []
    store = ObservedStore(NullStore(), lambda **observed: seen.append(observed))
    results = store.write([Write("A", b"{}", None), Write("B", b'{"n":1}', None)])
    assert [result.outcome for result in results] == [Outcome.WRITTEN, Outcome.WRITTEN]
    assert store.read(["B", "C"])["B"].document == {"n": 1}
    assert seen == [{"written": 2, "turned_away": 0, "bytes": 9}, {"asked": 2, "found": 1}]
