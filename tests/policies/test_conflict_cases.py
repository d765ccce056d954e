"""Every case of ``docs/conflicts.md`` is decided as the page says, through the real apply step."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from operators.calls import do
from operators.decide import Decide
from operators.deliver import Deliver
from syncline.model.decision import Decided
from syncline.model.document import DocumentShape
from syncline.model.part import Part
from syncline.policies.customer_profile import CustomerProfile
from syncline.policies.search_document import SearchDocument
from tests.customers import ANN, CUSTOMERS, published
from tests.memory_store import MemoryStore
from tests.operators.simulation import ManualClock, NoWait
from tests.policies.conflict_cases import CASES, Rows, Writers

PAGE = Path(__file__).parents[2] / "docs" / "conflicts.md"
ROW = re.compile(r"^\| ([^|`]+?) (?:\|[^|\n]*){4}\|$", re.MULTILINE)
HEADINGS = {"case", "---"}

ROWS = {name: case for name, case in CASES.items() if isinstance(case, Rows)}
WRITERS = {name: case for name, case in CASES.items() if isinstance(case, Writers)}


class Flow:
    """The apply step over an empty store."""

    def __init__(self, shape: DocumentShape) -> None:
        self.store = MemoryStore()
        self._decide = Decide(shape, {}, Deliver(self.store, 1 << 20, NoWait().circuit), ManualClock())

    def bring(self, parts: Iterable[Part]) -> Decided:
        decided = Decided()
        for part in parts:
            told, left = do(self._decide([part]))
            assert not left
            decided.add(told)
        return decided


def test_the_page_and_the_cases_name_each_other() -> None:
    names = [name for name in ROW.findall(PAGE.read_text(encoding="utf-8")) if name not in HEADINGS]

    assert names == list(CASES)
    assert len(names) >= 30


@pytest.mark.parametrize("case", ROWS.values(), ids=ROWS)
def test_a_row_of_one_writer_is_decided_as_the_page_says(case: Rows) -> None:
    flow = Flow(SearchDocument())
    flow.bring(case.known)

    decided = flow.bring([case.came])

    ((verdict,),) = [applied.verdicts for applied in decided.applied]
    assert verdict.decision == case.decision
    assert ["arrived" if told.won else "known" for told in decided.conflicts] == (
        [] if case.conflict is None else [case.conflict]
    )
    for path, value in case.shows.items():
        shown: object = flow.store.document("SKU-1")
        for key in path.split("."):
            assert isinstance(shown, dict)
            shown = shown[key]
        assert shown == value, path


@pytest.mark.parametrize("case", WRITERS.values(), ids=WRITERS)
def test_values_of_several_writers_are_decided_as_the_page_says(case: Writers) -> None:
    is_told_again = case.came in case.known
    parts = published(case.known if is_told_again else [*case.known, case.came])
    came = parts[list(case.known).index(case.came)] if is_told_again else parts[-1]
    flow = Flow(CustomerProfile(CUSTOMERS.conflicts))
    flow.bring(parts if is_told_again else parts[:-1])

    decided = flow.bring([came])

    ((verdict,),) = [applied.verdicts for applied in decided.applied]
    assert verdict.decision == case.decision
    assert [
        (told.kind, told.field, told.rule, "arrived" if told.won else "known") for told in decided.conflicts
    ] == list(case.conflicts)
    assert [review.field for review in decided.reviews if review.is_open] == list(case.under_review)
    document = flow.store.document(ANN)
    assert {column: document[column] for column in case.shows} == case.shows
    assert document["_sync"]["hidden"] == case.is_hidden
