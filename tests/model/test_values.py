"""Amounts and moments as PostgreSQL writes them are read fast, and to the same result as any other text."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from syncline.model.values import Amount, AmountE4, UtcText

_amount_e4: TypeAdapter[Any] = TypeAdapter(AmountE4)
_utc_text: TypeAdapter[Any] = TypeAdapter(UtcText)
_amount = TypeAdapter(Amount)
_moment = TypeAdapter(AwareDatetime)

LARGEST_E4 = 10**12 - 1
REFUSED = "refused"


def amount_e4(value: object) -> int:
    e4: int = _amount_e4.validate_python(value)
    return e4


def utc_text(value: object) -> str | None:
    text: str | None = _utc_text.validate_python(value)
    return text


def or_refused(read: Callable[[object], int | str | None], value: object) -> int | str | None:
    try:
        return read(value)
    except ValidationError:
        return REFUSED


def by_way_of_a_decimal(value: object) -> int:
    return int(_amount.validate_python(value) * 10_000)


def by_way_of_a_datetime(value: object) -> str:
    moment = _moment.validate_python(value).astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


class TestAmounts:
    @given(st.integers(0, LARGEST_E4))
    @example(0)
    @example(1)
    @example(LARGEST_E4)
    def test_as_postgresql_writes_it_is_as_any_other_way(self, e4: int) -> None:
        text = f"{e4 // 10_000}.{e4 % 10_000:04}"

        assert amount_e4(text) == e4
        assert amount_e4(Decimal(text)) == e4
        assert amount_e4(f"+{text}") == e4
        assert amount_e4(f"-{text}") == -e4

    @given(st.text("0123456789.-+_eE \u0663\u00b2", max_size=15))
    @example("1_0.0000")
    @example("12.34_6")
    @example("\u0661\u0662.3456")
    @example("12.345\u0666")
    @example("\u00b2.0000")
    @example("1.000\u00b2")
    @example(".5000")
    @example("5.")
    @example(".")
    @example("")
    @example("-1.0000")
    @example("+1.0000")
    @example("-.5000")
    @example(" 1.0000")
    @example("1.0000 ")
    @example("1.0000\n")
    @example("1.2.3456")
    @example("1..3456")
    @example("1.-345")
    @example("1.+345")
    @example("12345678.0000")
    @example("123456789.0000")
    @example("000000001.0000")
    @example("00000001.0000")
    @example("1.00000")
    @example("1.000")
    @example("1e3")
    @example("1e1.0000")
    @example("NaN.0000")
    def test_whatever_looks_otherwise_is_read_or_refused_as_a_decimal(self, text: str) -> None:
        assert or_refused(amount_e4, text) == or_refused(by_way_of_a_decimal, text)

    @pytest.mark.parametrize(
        ("text", "e4"),
        [
            (".5000", 5_000),
            ("-12.9000", -129_000),
            ("-0.0001", -1),
            ("00000012.9000", 129_000),
            ("123456789.0000", REFUSED),
            ("1.00001", REFUSED),
            ("\u00b2.0000", REFUSED),
            ("", REFUSED),
            (".", REFUSED),
        ],
    )
    def test_odd_texts(self, text: str, e4: int | str) -> None:
        assert or_refused(amount_e4, text) == e4

    @pytest.mark.parametrize("value", [True, False, b"1.0000", [], {}, float("nan")], ids=repr)
    def test_what_is_no_text_and_no_number_is_refused_as_it_is_by_a_decimal(self, value: object) -> None:
        assert or_refused(amount_e4, value) == or_refused(by_way_of_a_decimal, value)


CANONICAL = "2026-03-29T00:30:00.123456Z"


class TestMoments:
    @given(
        st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - the zone is drawn
        st.integers(-14 * 60, 14 * 60),
    )
    @example(datetime(1, 1, 2), 0)  # noqa: DTZ001
    @example(datetime(2024, 2, 29, 23, 59, 59, 999_999), 0)  # noqa: DTZ001
    def test_as_the_outbox_writes_it_is_as_in_any_other_zone(self, moment: datetime, minutes: int) -> None:
        text = f"{moment.isoformat(timespec='microseconds')}Z"
        zone = timezone(timedelta(minutes=minutes))
        elsewhere = moment.replace(tzinfo=UTC).astimezone(zone)

        assert utc_text(text) == text
        assert utc_text(moment.replace(tzinfo=UTC)) == text
        assert utc_text(f"{text[:-1]}+00:00") == text
        assert utc_text(elsewhere.isoformat()) == text
        assert utc_text(elsewhere) == text

    @given(
        st.lists(st.tuples(st.integers(0, 26), st.sampled_from("0123456789-+:.,TtWZz _\u0663")), max_size=3)
    )
    def test_whatever_looks_otherwise_is_read_or_refused_as_a_datetime(
        self, edits: list[tuple[int, str]]
    ) -> None:
        characters = list(CANONICAL)
        for place, character in edits:
            characters[place] = character
        text = "".join(characters)

        assert or_refused(utc_text, text) == or_refused(by_way_of_a_datetime, text)

    @pytest.mark.parametrize(
        "text",
        [
            "2026-02-30T00:00:00.000000Z",
            "2025-02-29T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "0000-01-01T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T24:00",
            "2026-01-01T23:60:00.000000Z",
            "2026-01-01T23:59:60.000000Z",
            "2026-W01-1T00:00:00.000000Z",
            "2026-01-01T000000.00000000Z",
            "2026-01-01T00:00:00.00000\u0660Z",
            "2026-01-01T00:00:00.+00:00Z",
            "2026-01-01T00:00:00.000000",
        ],
    )
    def test_what_is_no_moment_is_refused(self, text: str) -> None:
        assert or_refused(utc_text, text) == REFUSED

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("2026-01-01T00:00:00,500000Z", "2026-01-01T00:00:00.500000Z"),
            ("2026-01-01 00:00:00.500000Z", "2026-01-01T00:00:00.500000Z"),
            ("2026-01-01t00:00:00.500000z", "2026-01-01T00:00:00.500000Z"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500000Z"),
            ("2026-01-01T00:00Z", "2026-01-01T00:00:00.000000Z"),
            ("0001-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("infinity", None),
            ("-infinity", None),
        ],
    )
    def test_however_it_is_written_it_is_told_in_one_way(self, text: str, told: str | None) -> None:
        """Moments are compared as texts, and sorted by them."""
        assert utc_text(text) == told
