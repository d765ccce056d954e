"""Each fault on the page of failures names a test that there is."""

import ast
import re

import pytest

from syncline.model.errors import FatalError, ServerDidNotStart
from tests.project import ROOT

PAGE = ROOT / "docs" / "failures.md"
HEADER = ["fault", "what is seen", "what the system does", "what a person does", "test"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


_FIRST_WORDS, _FAULTS = PAGE.read_text(encoding="utf-8").split("## Faults")
ROWS = [
    cells
    for line in _FAULTS.splitlines()
    if line.startswith("| ") and (cells := _cells(line)) != HEADER and set(cells[0]) != {"-"}
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_each_fault_names_a_test_that_exists(row: list[str]) -> None:
    assert len(row) == len(HEADER)
    assert all(row)
    named = TEST.findall(row[-1])
    assert named, "no test is named, as `tests/FOLDER/FILE.py::TEST`"
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


OF_FLOWS = [
    kind
    for kind in FatalError.__subclasses__()
    if kind.__module__ == FatalError.__module__ and kind is not ServerDidNotStart
]


@pytest.mark.parametrize("kind", OF_FLOWS, ids=lambda kind: kind.__name__)
def test_each_error_that_ends_a_flow_is_explained(kind: type[FatalError]) -> None:
    assert f"`{kind.__name__}`" in _FIRST_WORDS
