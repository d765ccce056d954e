"""What is sent back to a flow: a replay is the message that it was, but for its place; a resolution is a
change of its own; what is for others, or for nobody, goes no further."""

import pickle
from typing import Any

import orjson
import pytest

from operators import retries
from operators.decode import Decode, Reentries
from operators.replays import ends_of
from operators.transform import Transform
from syncline.model.change import Change, EntityKey, ReplayOf, RetryOf, Watermark
from syncline.model.decision import Applied, Decided, Decision, Stamps, Verdict
from syncline.model.errors import Undecodable
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.part import Part
from syncline.model.reentry import RESOLUTION_PRODUCER, ReplayEnd, ReplayState, RetryEnd, RetryState
from syncline.model.version import Version
from syncline.policies.reading import load_policies
from syncline.policies.reentry import reentry_topic
from tests.changes import NOON_US, SEARCH, TOPIC_PREFIX, TOPICS, change_message, message, price, product

REENTRY = reentry_topic(TOPIC_PREFIX)
LATER_US = NOON_US + 60_000_000
decode = Decode(load_policies().topics(TOPIC_PREFIX), Reentries(REENTRY, "catalog_search"))
PRICE = change_message(
    "price",
    price(),
    6,
    headers=[
        ("id", "é".encode()),
        ("committedAt", b"1767268700000000"),
        ("detectedAt", b"1767268700000001"),
        ("none", None),
    ],
)


def reentry(payload: dict[str, Any] | bytes | None, key: bytes = b"SKU-1") -> Message:
    raw = orjson.dumps(payload) if isinstance(payload, dict) else payload
    return Message(REENTRY, 1, 7, key, raw, (("id", b"of the reentry"),), LATER_US, LATER_US)


def replay(original: Message = PRICE, **members: object) -> dict[str, Any]:
    return {
        "kind": "replay",
        "flow": "catalog_search",
        "quarantine_id": 3,
        "topic": original.topic,
        "key": None if original.key is None else original.key.hex(),
        "value": None if original.value is None else original.value.hex(),
        "headers": [[name, None if value is None else value.hex()] for name, value in original.headers],
        "correction": 0,
        "by": "ann",
        "why": None,
        "version": 12,
        **members,
    }


def retry(original: Message, **members: object) -> dict[str, Any]:
    return {
        "kind": "retry",
        "flow": "catalog_search",
        "retry_id": 4,
        "turned_back": 2,
        "topic": original.topic,
        "partition": original.partition,
        "offset": original.offset,
        "appended_at_us": original.appended_at_us,
        "key": None if original.key is None else original.key.hex(),
        "value": None if original.value is None else original.value.hex(),
        "headers": [[name, None if value is None else value.hex()] for name, value in original.headers],
        "by": "syncline",
        "version": 13,
        **members,
    }


def resolution(**members: object) -> dict[str, Any]:
    return {
        "kind": "resolution",
        "flow": "catalog_search",
        "entity_type": "customer",
        "document_id": "c-1",
        "field": "email",
        "value": "a@b.example",
        "covers": {"crm": 4},
        "at": "2026-01-01T12:00:00.000000Z",
        "by": "ann",
        "why": "asked her",
        "version": 12,
        **members,
    }


def test_a_replay_is_the_change_that_it_was() -> None:
    (original,) = decode([PRICE])
    back = reentry(replay())

    (change,) = decode([back])

    assert isinstance(original, Change)
    assert isinstance(change, Change)
    assert change == original._replace(message=back, replay_of=ReplayOf(3, 12))
    assert change.producer == "pricing"
    assert change.event_id == "é"


def test_a_corrected_replay_stands_above_what_it_corrects_and_below_the_next_version() -> None:
    (change,) = decode([reentry(replay(correction=2))])
    assert isinstance(change, Change)
    assert change.version == Version(1, 6, 0, 2)
    assert Version(1, 6, 0, 1) < change.version < Version(1, 7, 0)


def test_a_replay_without_an_id_of_its_own_is_named_by_its_place_in_the_log() -> None:
    (change,) = decode([reentry(replay(message(PRICE.value, TOPICS["price"])))])
    assert isinstance(change, Change)
    assert change.event_id == f"{REENTRY}/1@7"
    assert change.commit_time_is_estimated


def test_a_retry_is_the_change_that_it_was_at_its_place_in_the_log() -> None:
    (original,) = decode([PRICE])

    (change,) = decode([reentry(retry(PRICE))])

    assert isinstance(original, Change)
    received = PRICE._replace(received_at_us=LATER_US)
    assert change == original._replace(message=received, retry_of=RetryOf(4, 13, 2))


def test_a_retry_of_a_replay_is_both() -> None:
    corrected = reentry(replay(correction=2))
    (original,) = decode([corrected])

    (change,) = decode([reentry(retry(corrected))])

    assert isinstance(original, Change)
    assert change == original._replace(retry_of=RetryOf(4, 13, 2))
    assert change.replay_of == ReplayOf(3, 12)


def test_a_retry_of_a_resolution_is_that_resolution() -> None:
    answers = Decode(
        load_policies().flow("customer_profiles").topics(TOPIC_PREFIX),
        Reentries(REENTRY, "customer_profiles"),
    )
    answer = reentry(resolution(flow="customer_profiles"), key=b"c-1")
    (original,) = answers([answer])

    (change,) = answers([reentry(retry(answer, flow="customer_profiles"))])

    assert isinstance(original, Change)
    assert change == original._replace(retry_of=RetryOf(4, 13, 2))


def test_a_retry_for_another_flow_is_skipped() -> None:
    assert decode([reentry(retry(PRICE, flow="customer_profiles"))]) == []


def test_a_retry_that_is_understood_no_longer_says_of_which_entry() -> None:
    broken = PRICE._replace(value=b"{")

    (failure,) = decode([reentry(retry(broken))])

    assert isinstance(failure, Failure)
    assert failure.message == broken._replace(received_at_us=LATER_US)
    assert failure.retry_of == RetryOf(4, 13, 2)


def test_a_change_that_came_back_keeps_its_entry_through_a_snapshot() -> None:
    (change,) = decode([reentry(retry(PRICE))])
    assert isinstance(change, Change)
    assert Change.from_plain(change.to_plain()) == change
    assert b"RetryOf" not in pickle.dumps(change.to_plain())


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        (Decision.APPLIED, RetryState.DONE),
        (Decision.DUPLICATE, RetryState.DONE),
        (Decision.SUPERSEDED, RetryState.OVERTAKEN),
        (Decision.REJECTED, RetryState.OVERTAKEN),
    ],
)
def test_what_became_of_a_retry_is_told_of_it_alone(decision: Decision, state: RetryState) -> None:
    changes = decode([PRICE, reentry(retry(PRICE))])
    parts = Transform(SEARCH, lambda: NOON_US)([change for change in changes if isinstance(change, Change)])
    verdicts = [Verdict(part, decision) for part in parts if isinstance(part, Part)]
    decided = Decided([Applied("SKU-1", verdicts, 1, Stamps(0, 0, 0, 0))])

    assert list(retries.ends_of(decided)) == [RetryEnd(RetryOf(4, 13, 2), state)]
    assert list(ends_of(decided)) == []


def test_what_is_for_another_flow_is_skipped_and_watermarks_are_not() -> None:
    mark = message(None, REENTRY, key=None, headers=[("watermark", b"77")])
    others = [reentry(replay(flow="customer_profiles")), reentry(resolution(flow="customer_profiles"))]
    assert decode([others[0], mark, others[1]]) == [Watermark(REENTRY, 0, 77)]


def test_a_replayed_watermark_is_none() -> None:
    bad_mark = message(None, TOPICS["price"], key=None, headers=[("watermark", b"77")])
    (failure,) = decode([reentry(replay(bad_mark))])
    assert isinstance(failure, Failure)


@pytest.mark.parametrize(
    ("original", "reason"),
    [
        (message(b"{", TOPICS["price"]), "not JSON"),
        (message(PRICE.value, TOPICS["product"]), "belongs to pricing; catalog may not"),
        (message(PRICE.value, "syncline.nobody.price"), "belongs to no entity"),
        (message(PRICE.value, REENTRY), "belongs to no entity"),
        (message(PRICE.value, TOPICS["price"], key=None), "key: None"),
    ],
    ids=["bytes", "another owner's topic", "unknown topic", "a replay in a replay", "key"],
)
def test_a_replay_that_fails_again_is_known_as_one(original: Message, reason: str) -> None:
    back = reentry(replay(original))
    (failure,) = decode([back])
    assert isinstance(failure, Failure)
    assert failure.replay_of == ReplayOf(3, 12)
    assert failure.message is back
    assert reason in str(failure.error)


MALFORMED: dict[str, dict[str, Any] | bytes | None] = {
    "no value": None,
    "no JSON": b"{",
    "no object": b"[]",
    "no kind": {"flow": "catalog_search"},
    "unknown kind": replay(kind="choice"),
    "no flow": {name: value for name, value in replay().items() if name != "flow"},
    "no hexadecimal": replay(value="xy"),
    "headers no pairs": replay(headers=[["id"]]),
    "correction negative": replay(correction=-1),
    "correction a text": replay(correction="1"),
    "version 0": replay(version=0),
    "quarantine_id beyond 63 bits": replay(quarantine_id=2**63),
    "covers no numbers": resolution(covers={"crm": "four"}),
    "entity of another flow": resolution(entity_type="basket"),
    "NUL in a value": resolution(value="a\0b"),
    "no document": resolution(document_id=""),
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_reentry_is_undecodable_and_no_replay(payload: dict[str, Any] | bytes | None) -> None:
    back = reentry(payload)
    (failure,) = decode([back])
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, Undecodable)
    assert failure.message is back
    assert failure.replay_of is None


def test_where_nothing_comes_back_the_topic_is_unknown() -> None:
    (failure,) = Decode(load_policies().topics(TOPIC_PREFIX))([reentry(replay())])
    assert isinstance(failure, Failure)
    assert failure.replay_of is None


def test_a_resolution_is_a_change_of_its_own_and_a_part_for_each_field() -> None:
    back = reentry(resolution(), key=b"c-1")
    (change,) = decode([back])
    assert isinstance(change, Change)
    assert change.entity == EntityKey("customer", "c-1")
    assert change.producer == RESOLUTION_PRODUCER
    assert change.version == Version(1, 12, 0)
    assert change.message is back
    assert change.replay_of is None

    (part,) = Transform(load_policies().flow("customer_profiles"))([change])
    assert isinstance(part, Part)
    assert (part.document_id, part.entity, part.slot) == (
        "c-1",
        "customer:resolution:email:c-1",
        "resolution:email",
    )
    assert part.body == {
        "value": "a@b.example",
        "covers": {"crm": 4},
        "at_us": NOON_US,
        "by": "ann",
        "why": "asked her",
    }


def test_a_replay_in_a_snapshot_is_plain_and_comes_back_whole() -> None:
    part = replayed_part()
    plain = part.to_plain()
    assert Part.from_plain(pickle.loads(pickle.dumps(plain))) == part  # noqa: S301 - our own
    assert b"ReplayOf" not in pickle.dumps(plain)


def replayed_part() -> Part:
    (change,) = decode([reentry(replay(change_message("product", product())))])
    assert isinstance(change, Change)
    (part,) = Transform(SEARCH)([change])
    assert isinstance(part, Part)
    return part


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        (Decision.APPLIED, ReplayState.REPLAYED),
        (Decision.DUPLICATE, ReplayState.REPLAYED),
        (Decision.SUPERSEDED, ReplayState.OVERTAKEN),
        (Decision.REJECTED, ReplayState.OVERTAKEN),
    ],
)
def test_how_a_replay_ends_follows_from_its_decision(decision: Decision, state: ReplayState) -> None:
    part = replayed_part()
    first = part._replace(change=part.change._replace(replay_of=None))
    verdicts = [Verdict(first, Decision.APPLIED), Verdict(part, decision)]
    decided = Decided(applied=[Applied("SKU-1", verdicts, 1, Stamps(0, 0, 0, 0))])
    assert list(ends_of(decided)) == [ReplayEnd(ReplayOf(3, 12), state)]


def test_a_resolution_of_an_entity_that_nobody_reviews_is_told() -> None:
    (failure,) = decode([reentry(resolution(entity_type="product"))])

    assert isinstance(failure, Failure)
    assert "reviews no 'product'" in str(failure.error)
