"""Rows become parts; one that does not fit becomes a failure that names field, value and what is right."""

from typing import Any

import pytest

from operators.transform import Transform
from syncline.model.change import Change, Watermark
from syncline.model.errors import Untransformable
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.part import Part
from tests.changes import (
    SEARCH,
    change_message,
    change_of,
    decode,
    price,
    price_part,
    product,
    product_part,
    stock,
    stock_part,
    transform,
)


def through(message: Message) -> Part | Watermark | Failure:
    """The message after decode and transform."""
    decoded = decode([message])
    if isinstance(decoded[0], Failure):
        return decoded[0]
    (outcome,) = transform([item for item in decoded if isinstance(item, Change)])
    return outcome


def test_a_product_keeps_the_columns_that_the_document_has() -> None:
    part = product_part(3, internal_note="not for the index", tags=["a", None])

    assert (part.document_id, part.entity, part.slot) == ("SKU-1", "product:SKU-1", "")
    assert part.body == {
        "name": "Kettle",
        "description": None,
        "brand": "Acme",
        "category": "kitchen",
        "attributes": {"colour": "red"},
        "tags": ["a", None],
        "status": "active",
    }


def test_a_price_is_kept_in_whole_numbers_of_its_smallest_part() -> None:
    part = price_part(list_amount="99999999.9999", sale_amount="0.0001")

    assert (part.document_id, part.entity, part.slot) == ("SKU-1", "price:EUR:SKU-1", "EUR")
    assert part.body == {
        "list_e4": 999_999_999_999,
        "sale_e4": 1,
        "valid_from": "2026-01-01T00:00:00.000000Z",
        "valid_to": None,
    }


def test_stock_stands_under_its_warehouse() -> None:
    part = stock_part(warehouse_id="W7", on_hand=2**31 - 1, reserved=-(2**31))

    assert (part.document_id, part.entity, part.slot) == ("SKU-1", "stock:W7:SKU-1", "W7")
    assert part.body == {"on_hand": 2**31 - 1, "reserved": -(2**31)}


def test_a_delete_needs_no_columns() -> None:
    part = through(change_message("stock", {"warehouse_id": "W1", "sku": "SKU-1"}, 5, "delete"))

    assert isinstance(part, Part)
    assert (part.body, part.slot) == (None, "W1")


@pytest.mark.parametrize(
    ("amount", "e4"),
    [("12.90", 129_000), (12.9, 129_000), (12, 120_000), ("1e3", 10_000_000), ("-0", 0), (None, None)],
    ids=str,
)
def test_an_amount_is_exact_however_it_is_written(amount: object, e4: int | None) -> None:
    part = price_part(list_amount=amount)

    assert part.body is not None
    assert part.body["list_e4"] == e4


@pytest.mark.parametrize(
    ("moment", "iso"),
    [
        ("2026-03-29T02:30:00.123456+02:00", "2026-03-29T00:30:00.123456Z"),
        ("2026-03-29T00:30:00Z", "2026-03-29T00:30:00.000000Z"),
        ("infinity", None),
        ("-infinity", None),
        (None, None),
    ],
    ids=str,
)
def test_a_moment_is_told_in_utc_and_an_open_end_is_none(moment: str | None, iso: str | None) -> None:
    part = price_part(valid_from=moment)

    assert part.body is not None
    assert part.body["valid_from"] == iso


@pytest.mark.parametrize(
    "value",
    ["😀 and e\u0301", "مرحبا", "  ", "line\nbreak", "x" * 100_000, r"\u0000"],
    ids=["emoji", "right to left", "blank", "line break", "long", "backslash"],
)
def test_any_text_that_json_holds_is_a_name(value: str) -> None:
    part = product_part(name=value)

    assert part.body is not None
    assert part.body["name"] == value


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 9.2e18, -1e-300, 0.1], ids=str)
def test_numbers_up_to_64_bits_stay_in_attributes(number: float) -> None:
    part = product_part(attributes={"deep": [{"value": number}]})

    assert part.body is not None
    assert part.body["attributes"] == {"deep": [{"value": number}]}


def fields(entity_type: str, wrong: dict[str, Any]) -> Message:
    """A change whose columns do not say what its entity says."""
    clean = {"product": product(), "price": price(), "stock": stock()}[entity_type]
    good = change_message(entity_type, clean)
    change = change_of(good)
    return good._replace(
        value=b'{"entity":"%s","op":"upsert","version":1,"fields":%s}'
        % (str(change.entity).encode(), _json({**clean, **wrong}))
    )


def _json(value: object) -> bytes:
    import json  # noqa: PLC0415 - orjson writes no number beyond 64 bits, which is the point here

    return json.dumps(value).encode()


WRONG: dict[str, tuple[Message, str]] = {
    "sku of another product": (fields("product", {"sku": "SKU-2"}), "sku: 'SKU-2' must be 'SKU-1'"),
    "sku missing": (fields("stock", {"sku": None}), "sku: None must be 'SKU-1'"),
    "sku a number": (fields("product", {"sku": 5}), "sku: 5 must be 'SKU-1'"),
    "name a number": (fields("product", {"name": 5}), "name: 5: .*valid string"),
    "attributes a list": (fields("product", {"attributes": [1]}), r"attributes: \[1\]: .*dictionary"),
    "tags a text": (fields("product", {"tags": "new"}), "tags: 'new': .*valid list"),
    "tags of numbers": (fields("product", {"tags": ["a", 5]}), "tags.1: 5: .*valid string"),
    "attribute beyond 64 bits": (
        fields("product", {"attributes": {"serial": 2**64}}),
        r"attributes: .*1.8446744073709552e\+19 does not fit in 64 bits; send it as a string",
    ),
    "attribute far below 64 bits": (
        fields("product", {"attributes": {"deep": [{"serial": -(2**65)}]}}),
        "does not fit in 64 bits",
    ),
    "amount NaN": (fields("price", {"list_amount": "NaN"}), "list_amount: 'NaN': .*finite number"),
    "amount infinite": (fields("price", {"sale_amount": "Infinity"}), "sale_amount: 'Infinity': .*finite"),
    "amount no number": (fields("price", {"list_amount": "12,90"}), "list_amount: '12,90': .*valid decimal"),
    "amount true": (fields("price", {"list_amount": True}), "list_amount: True: "),
    "amount with 5 decimals": (fields("price", {"list_amount": "1.00001"}), "no more than 4 decimal places"),
    "amount of 13 digits": (fields("price", {"list_amount": "123456789.1234"}), "no more than 12 digits"),
    "amount of 9 digits before the point": (fields("price", {"list_amount": "123456789"}), "no more than 8"),
    "amount of a million digits": (fields("price", {"list_amount": "1e999999"}), "list_amount: '1e999999'"),
    "moment no date": (fields("price", {"valid_from": "soon"}), "valid_from: 'soon': .*valid datetime"),
    "moment before Christ": (
        fields("price", {"valid_from": "0044-03-15T00:00:00+00:00 BC"}),
        "valid_from: .*valid datetime",
    ),
    "stock a text": (fields("stock", {"on_hand": "10"}), "on_hand: '10': .*valid integer"),
    "stock a fraction": (fields("stock", {"on_hand": 1.5}), "on_hand: 1.5: .*valid integer"),
    "stock true": (fields("stock", {"reserved": True}), "reserved: True: .*valid integer"),
    "stock beyond 32 bits": (
        fields("stock", {"on_hand": 2**31}),
        "on_hand: 2147483648: .*less than or equal",
    ),
    "stock null": (fields("stock", {"on_hand": None}), "on_hand: None: .*valid integer"),
    "a long value is cut": (fields("product", {"tags": "x" * 5_000}), r"tags: 'x{79}\.\.\.: "),
}


@pytest.mark.parametrize(("message", "reason"), WRONG.values(), ids=WRONG)
def test_a_row_that_does_not_fit_becomes_a_failure_that_says_what_would(
    message: Message, reason: str
) -> None:
    failure = through(message)

    assert isinstance(failure, Failure)
    assert failure.step == "transform"
    assert failure.message is message
    assert failure.change == change_of(message)
    with pytest.raises(Untransformable, match=reason):
        raise failure.error


def test_all_that_is_wrong_with_a_row_is_said_at_once() -> None:
    failure = through(fields("stock", {"on_hand": "many", "reserved": "few"}))

    assert isinstance(failure, Failure)
    assert "on_hand: 'many'" in str(failure.error)
    assert "reserved: 'few'" in str(failure.error)


def test_watermarks_and_good_rows_pass_in_order_around_a_bad_one() -> None:
    mark = Watermark("syncline.warehouse.stock", 0, 5)
    good = [change_of(change_message("stock", stock(), version)) for version in (1, 2)]
    bad = change_of(fields("stock", {"on_hand": "many"}))

    first, failure, passed, second = transform([good[0], bad, mark, good[1]])

    assert isinstance(first, Part)
    assert isinstance(failure, Failure)
    assert passed is mark
    assert isinstance(second, Part)
    assert (first.version.row, second.version.row) == (1, 2)


def test_a_part_tells_when_its_batch_came_and_when_that_was_done() -> None:
    times = iter([100, 170])
    changes = [change_of(change_message("stock", stock(), version)) for version in (1, 2)]

    parts = Transform(SEARCH, lambda: next(times))(changes)

    stamps = [(part.routed_at_us, part.transformed_at_us) for part in parts if isinstance(part, Part)]
    assert stamps == [(100, 170), (100, 170)]


class TestNoRowEndsTheFlow:
    """An error of the row is a failure in quarantine; anything raised would end the flow for all others."""

    @pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+02:00"])
    def test_a_moment_at_the_calendar_s_end_in_another_time_zone(self, moment: str) -> None:
        assert isinstance(through(fields("price", {"valid_to": moment})), Part | Failure)

    @pytest.mark.parametrize("sku", ["x" * 513, "😀" * 129])
    def test_a_delete_of_a_sku_that_no_store_takes_as_an_id(self, sku: str) -> None:
        assert isinstance(through(change_message("product", product(sku), 1, "delete")), Failure)


def test_an_early_moment_has_a_year_of_four_digits() -> None:
    part = price_part(valid_from="0500-01-01T00:00:00+00:00")

    assert part.body is not None
    assert part.body["valid_from"] == "0500-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "message",
    [fields("price", {"currency": "USD"}), fields("stock", {"warehouse_id": "W2"})],
    ids=["currency", "warehouse"],
)
def test_a_row_of_another_currency_or_warehouse_than_its_entity_s_does_not_fit(message: Message) -> None:
    assert isinstance(through(message), Failure)
