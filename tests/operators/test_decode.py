"""Good messages become changes; a bad one becomes a failure that holds it whole and says what is wrong."""

import orjson
import pytest

from operators.decode import usurpation
from syncline.model.change import Change, EntityKey, Watermark, content_hash
from syncline.model.errors import NotOwner, Undecodable
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.version import OpRank, Version
from tests.changes import (
    NOON_US,
    TOPICS,
    change_message,
    change_of,
    decode,
    message,
    payload,
    price,
    product,
    stock,
)

GOOD = payload("product", product())


def with_header(name: str, value: bytes | None) -> Message:
    return message(GOOD, headers=[(name, value)])


def fields_json(fields: bytes) -> Message:
    return message(b'{"entity":"product:SKU-1","op":"upsert","version":1,"fields":' + fields + b"}")


BAD: dict[str, tuple[Message, str]] = {
    "no value": (message(None), "value: there is none"),
    "empty value": (message(b""), "value: this is not JSON"),
    "broken JSON": (message(b'{"entity": "product:SKU-1", '), "value: this is not JSON"),
    "two JSON values": (message(b"{}{}"), "value: this is not JSON"),
    "not UTF-8": (message(b'{"entity": "\xff\xfe"}'), "value: this is not JSON"),
    "lone surrogate": (fields_json(b'{"name": "\\ud800"}'), "value: this is not JSON"),
    "raw control character": (fields_json(b'{"name": "\0"}'), "value: this is not JSON"),
    "NaN": (fields_json(b'{"weight": NaN}'), "value: this is not JSON"),
    "Infinity": (fields_json(b'{"weight": -Infinity}'), "value: this is not JSON"),
    "number beyond a double": (fields_json(b'{"weight": 1e400}'), "value: this is not JSON"),
    "nested beyond reason": (fields_json(b"[" * 2_000 + b"]" * 2_000), "value: this is not JSON"),
    "NUL in a text": (fields_json(b'{"name": "a\\u0000b"}'), r"U\+0000"),
    "NUL in a key": (fields_json(b'{"a\\u0000b": 1}'), r"U\+0000"),
    "NUL deep inside": (fields_json(b'{"attributes": {"a": [{"b": "\\u0000"}]}}'), r"U\+0000"),
    "array": (message(b"[]"), "a list is no change"),
    "text": (message(b'"product:SKU-1"'), "a str is no change"),
    "null": (message(b"null"), "a NoneType is no change"),
    "entity missing": (
        message({k: v for k, v in GOOD.items() if k != "entity"}),
        "entity: None must be text",
    ),
    "entity a number": (message({**GOOD, "entity": 5}), "entity: 5 must be text"),
    "entity unknown": (message({**GOOD, "entity": "basket:SKU-1"}), "'basket:SKU-1' does not belong on"),
    "entity without an id": (message({**GOOD, "entity": "product"}), "'product' is incomplete"),
    "entity with an empty id": (message({**GOOD, "entity": "product:"}), "'product:' is incomplete"),
    "price without a currency": (
        message({**GOOD, "entity": "price:SKU-1"}, TOPICS["price"]),
        "'price:SKU-1' is incomplete",
    ),
    "price with an empty currency": (
        message({**GOOD, "entity": "price::SKU-1"}, TOPICS["price"]),
        "'price::SKU-1' is incomplete",
    ),
    "stock without a SKU": (
        message({**GOOD, "entity": "stock:W1:"}, TOPICS["stock"]),
        "'stock:W1:' is incomplete",
    ),
    "topic of no entity": (
        message(GOOD, "syncline.catalog.basket"),
        "'syncline.catalog.basket' belongs to no",
    ),
    "entity too long": (
        message({**GOOD, "entity": "product:" + "x" * 600}),
        "608 characters are more than 512",
    ),
    "entity of another owner too long": (
        message({**GOOD, "entity": "price:" + "x" * 600}),
        "are more than 512",
    ),
    "NUL too deep to be looked for": (
        message(b'{"a":' * 600 + rb'"\u0000"' + b"}" * 600),
        "nested too deep",
    ),
    "no key": (message(GOOD, key=None), "key: None must be the sku"),
    "another SKU as key": (message(GOOD, key=b"SKU-2"), "key: 'SKU-2' must be the sku"),
    "entity id as key": (
        message(payload("price", price()), TOPICS["price"], b"EUR:SKU-1"),
        "key: 'EUR:SKU-1' must be the sku",
    ),
    "key not UTF-8": (message(GOOD, key=b"\xff"), "must be the sku"),
    "op missing": (message({k: v for k, v in GOOD.items() if k != "op"}), "op: None is unknown"),
    "op unknown": (message({**GOOD, "op": "truncate"}), "op: 'truncate' is unknown"),
    "op in capitals": (message({**GOOD, "op": "UPSERT"}), "op: 'UPSERT' is unknown"),
    "op a list": (message({**GOOD, "op": ["upsert"]}), "is unknown"),
    "version missing": (message({k: v for k, v in GOOD.items() if k != "version"}), "version: None must be"),
    "version true": (message({**GOOD, "version": True}), "version: True must be"),
    "version zero": (message({**GOOD, "version": 0}), "version: 0 must be"),
    "version negative": (message({**GOOD, "version": -1}), "version: -1 must be"),
    "version beyond 63 bits": (message({**GOOD, "version": 2**63}), "version: 9223372036854775808 must be"),
    "version beyond 64 bits": (
        message(orjson.dumps(GOOD).replace(b'"version":1', b'"version":18446744073709551616')),
        "version: .* must be",
    ),
    "version a float": (message({**GOOD, "version": 1.0}), "version: 1.0 must be"),
    "version a text": (message({**GOOD, "version": "1"}), "version: '1' must be"),
    "fields missing": (message({k: v for k, v in GOOD.items() if k != "fields"}), "a NoneType is no set of"),
    "fields a list": (message({**GOOD, "fields": []}), "fields: a list is no set of columns"),
    "generation no number": (with_header("generation", b"two"), "header generation: b'two' must be"),
    "generation empty": (with_header("generation", b""), "header generation: b'' must be"),
    "commit time a fraction": (with_header("committedAt", b"1.5"), "header committedAt: b'1.5' must be"),
    "detection time a date": (with_header("detectedAt", b"2026-01-01"), "header detectedAt: .* must be"),
    "event id not UTF-8": (with_header("id", b"\xff"), "header id: .* is not UTF-8"),
    "watermark no number": (with_header("watermark", b"now"), "header watermark: b'now' must be"),
    "watermark not UTF-8": (with_header("watermark", b"\xff"), "header watermark: .* must be"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_a_bad_message_becomes_a_failure_with_the_raw_message_and_the_reason(
    bad: Message, reason: str
) -> None:
    (failure,) = decode([bad])

    assert isinstance(failure, Failure)
    assert failure.step == "decode"
    assert failure.message is bad
    assert isinstance(failure.error, Undecodable)
    assert failure.change is None
    with pytest.raises(Undecodable, match=reason):
        raise failure.error


def test_bad_messages_stop_no_good_one_and_order_is_kept() -> None:
    good = [change_message("product", product(), version) for version in (1, 2)]

    first, failure, second = decode([good[0], message(b"{"), good[1]])

    assert isinstance(first, Change)
    assert isinstance(failure, Failure)
    assert isinstance(second, Change)
    assert (first.version.row, second.version.row) == (1, 2)


def test_an_upsert_carries_all_that_the_message_says() -> None:
    headers = [
        ("id", b"event-7"),
        ("committedAt", b"1767268799000000"),
        ("detectedAt", b"1767268799500000"),
        ("generation", b"3"),
    ]
    raw = change_message("price", price(), 42, offset=9, headers=headers, is_first=True)

    change = change_of(raw)

    assert change == Change(
        entity=EntityKey("price", "EUR:SKU-1"),
        op="upsert",
        fields=price(),
        version=Version(3, 42, OpRank.UPSERT),
        content_hash=content_hash("upsert", price()),
        event_id="event-7",
        is_first=True,
        producer="pricing",
        committed_at_us=1_767_268_799_000_000,
        commit_time_is_estimated=False,
        detected_at_us=1_767_268_799_500_000,
        message=raw,
    )


def test_a_delete_stands_above_the_upsert_that_it_ends() -> None:
    upsert = change_of(change_message("stock", stock(), 5))
    delete = change_of(change_message("stock", stock(), 5, "delete"))
    after = change_of(change_message("stock", stock(), 6))

    assert upsert.version < delete.version < after.version


def test_what_a_deleted_row_last_said_makes_no_other_content() -> None:
    deletes = [change_of(change_message("stock", stock(on_hand=on_hand), 5, "delete")) for on_hand in (1, 2)]

    assert deletes[0].content_hash == deletes[1].content_hash


def test_the_order_of_columns_makes_no_other_content() -> None:
    reordered = dict(reversed(product().items()))

    assert content_hash("upsert", product()) == content_hash("upsert", reordered)
    assert content_hash("upsert", product()) != content_hash("upsert", product(name="Pot"))
    assert content_hash("upsert", product()) != content_hash("delete", product())


def test_without_headers_the_log_stands_in_for_what_is_missing() -> None:
    change = change_of(message(GOOD, offset=9))

    assert change.event_id == "syncline.catalog.product/0@9"
    assert (change.committed_at_us, change.detected_at_us) == (NOON_US, NOON_US)
    assert change.commit_time_is_estimated
    assert change.version.generation == 1
    assert not change.is_first


def test_a_commit_time_that_the_owner_estimated_is_marked() -> None:
    headers = [("committedAt", b"5"), ("committedAtEstimated", b"1")]

    change = change_of(message(GOOD, headers=headers))

    assert (change.committed_at_us, change.commit_time_is_estimated) == (5, True)


def test_a_watermark_speaks_for_its_partition_and_needs_no_value() -> None:
    assert decode([message(None, key=None, headers=[("watermark", b"77")])]) == [
        Watermark(TOPICS["product"], 0, 77)
    ]


def test_a_backslash_before_u0000_is_text_and_no_nul() -> None:
    change = change_of(fields_json(rb'{"sku": "SKU-1", "name": "\\u0000"}'))

    assert change.fields["name"] == r"\u0000"


@pytest.mark.parametrize("sku", ["Ünïcode", "😀", "a:b", " ", "x" * 128])
def test_any_text_is_a_sku(sku: str) -> None:
    change = change_of(change_message("product", product(sku)))

    assert change.entity == EntityKey("product", sku)


def test_the_largest_version_is_kept_to_the_last_bit() -> None:
    assert change_of(message({**GOOD, "version": 2**63 - 1})).version.row == 2**63 - 1


def test_a_large_message_is_decoded() -> None:
    text = "long words " * 500_000

    assert change_of(change_message("product", product(description=text))).fields["description"] == text


def test_columns_that_are_new_stay_in_the_change() -> None:
    assert change_of(message({**GOOD, "fields": {"new": [1]}})).fields == {"new": [1]}


class TestNoMessageEndsTheFlow:
    """What decode lets pass must not be fatal to a later step: a poison message would stop all others."""

    def test_nesting_that_no_step_can_write_again_is_undecodable(self) -> None:
        (failure,) = decode([fields_json(b'{"attributes": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}")])

        assert isinstance(failure, Failure)

    @pytest.mark.parametrize("name", ["generation", "committedAt", "detectedAt", "watermark"])
    @pytest.mark.parametrize("value", [b"9223372036854775808", b"-9223372036854775809", b"1" * 30])
    def test_a_header_number_beyond_64_bits_is_undecodable(self, name: str, value: bytes) -> None:
        (failure,) = decode([with_header(name, value)])

        assert isinstance(failure, Failure)

    @pytest.mark.parametrize("value", [b"-99999999999999999", b"9000000000000000000"])
    def test_a_commit_time_that_no_database_can_keep_is_undecodable(self, value: bytes) -> None:
        (failure,) = decode([with_header("committedAt", value)])

        assert isinstance(failure, Failure)

    def test_an_event_id_with_a_nul_is_undecodable(self) -> None:
        (failure,) = decode([with_header("id", b"a\0b")])

        assert isinstance(failure, Failure)


def test_a_producer_that_is_not_the_owner_is_told_with_what_it_wrote() -> None:
    forged = message(GOOD, TOPICS["price"], key=b"whatever")

    (failure,) = decode([forged])

    assert isinstance(failure, Failure)
    assert isinstance(failure.error, NotOwner)
    assert str(failure.error) == "product:SKU-1 belongs to catalog; pricing may not write it"
    conflict = usurpation(failure)
    assert conflict is not None
    assert (conflict.kind, conflict.entity, conflict.won) == ("ownership", ("product", "SKU-1"), False)
    assert (conflict.known.writer, conflict.arrived.writer) == ("catalog", "pricing")
    assert conflict.arrived.value == GOOD["fields"]
