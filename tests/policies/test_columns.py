"""Columns of each type become fields, by each transform."""

from typing import Any

import pytest
from pydantic import ValidationError

from syncline.policies.columns import TRANSFORMS, TYPES, ColumnType, Source, compile_mapper, function_of


def mapped(type_: str, value: object, transform: str = "as_is") -> object:
    mapper = compile_mapper({"field": Source("column", ColumnType.parse(type_), False, transform)}, ["field"])
    return mapper({"column": value, "other": 1})["field"]


GOOD: list[tuple[str, str, object, object]] = [
    ("text", "as_is", " Kettle ", " Kettle "),
    ("text", "lower", "KETTLE", "kettle"),
    ("char(3)", "trim", "EU ", "EU"),
    ("integer", "as_is", -5, -5),
    ("bigint", "as_is", 2**63 - 1, 2**63 - 1),
    ("numeric(12,4)", "as_is", "12.9000", "12.9000"),
    ("numeric(12,4)", "e4", "12.9000", 129000),
    ("numeric(10,2)", "e4", "12.90", 129000),
    ("numeric(6,0)", "e4", "12", 120000),
    ("boolean", "as_is", True, True),
    ("timestamptz", "as_is", "2026-01-01T01:00:00+01:00", "2026-01-01T01:00:00+01:00"),
    ("timestamptz", "utc", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.000000Z"),
    ("timestamptz", "utc", "infinity", None),
    ("uuid", "as_is", "6A1F5DD3-5D29-4B9A-8F8E-2F3F7F1A1B11", "6a1f5dd3-5d29-4b9a-8f8e-2f3f7f1a1b11"),
    ("jsonb", "as_is", {"a": [1]}, {"a": [1]}),
    ("text[]", "as_is", ["a", None], ["a", None]),
]


@pytest.mark.parametrize(("type_", "transform", "value", "expected"), GOOD)
def test_a_value_that_fits(type_: str, transform: str, value: object, expected: object) -> None:
    assert mapped(type_, value, transform) == expected


def test_null_is_none_for_every_type() -> None:
    assert [mapped(type_, None, transform) for type_, transform, _, _ in GOOD] == [None] * len(GOOD)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("text", 5),
        ("char(3)", "EURO"),
        ("integer", 2**31),
        ("integer", "5"),
        ("bigint", 2**63),
        ("numeric(12,4)", "1.00001"),
        ("numeric(4,2)", "100.00"),
        ("boolean", 1),
        ("timestamptz", "soon"),
        ("timestamptz", "2026-01-01T00:00:00"),
        ("uuid", "6a1f"),
        ("jsonb", [1]),
        ("jsonb", {"a": 1e300}),
        ("text[]", "a"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_column(type_: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        mapped(type_, value)
    assert refused.value.errors()[0]["loc"][0] == "column"


def test_a_required_column_is_there_and_not_null() -> None:
    mapper = compile_mapper({"field": Source("column", ColumnType.parse("text"), True)}, ["field"])

    assert mapper({"column": "x"}) == {"field": "x"}
    for row in ({}, {"column": None}):
        with pytest.raises(ValidationError):
            mapper(row)


def test_all_fields_are_there_in_the_end() -> None:
    text = ColumnType.parse("text")
    mapper = compile_mapper({"a": Source("x", text, False), "b": Source("y", text, False)}, ["a", "b", "c"])

    assert mapper({"x": "1"}) == {"a": "1", "b": None, "c": None}


def test_python_does_what_no_transform_can() -> None:
    source = Source("column", ColumnType.parse("text"), False, "as_is", function_of("textwrap:dedent"))

    assert compile_mapper({"field": source}, ["field"])({"column": "  x"}) == {"field": "x"}


@pytest.mark.parametrize("reference", ["textwrap", "textwrap:nothing", "no.such:thing", "os:name", ":"])
def test_a_function_that_is_not_there_is_told(reference: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be imported|no function|Empty module"):
        function_of(reference)


@pytest.mark.parametrize("text", ["decimal", "numeric", "numeric(12)", "char(x)", "text(3)", "", "TEXT"])
def test_a_type_that_syncline_does_not_read_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="there are text, integer"):
        ColumnType.parse(text)


@pytest.mark.parametrize("text", ["text", "char(3)", "numeric(12,4)", "text[]"])
def test_a_type_is_shown_as_it_is_written(text: str) -> None:
    assert str(ColumnType.parse(text)) == text


def test_transforms_take_types_that_there_are() -> None:
    taken: set[Any] = {type_ for types in TRANSFORMS.values() for type_ in types}

    assert taken == set(TYPES)
