"""Step 3, first half: raw messages to changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import bytewax.operators as op
import orjson
from bytewax.dataflow import Stream, operator

from operators.failures import Fallible, try_batches
from operators.unwrap import change_payload, unwrap
from syncline.model import envelope
from syncline.model.change import Change, EntityKey, Op, ReplayOf, RetryOf, Watermark, content_hash
from syncline.model.decision import Conflict, ConflictKind, Side
from syncline.model.errors import NotOwner, Poison, Undecodable
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.reentry import RESOLUTION_PRODUCER, Replay, Resolution, Retry
from syncline.model.version import OpRank, Version
from syncline.policies.ownership import DOCUMENT_ID_MAX_LENGTH, EntityPolicy
from syncline.policies.reentry import SCHEMA

INT64_LIMIT = 2**63
ENTITY_MAX_LENGTH = 512
"""An index of PostgreSQL takes no more than 2,700 bytes of the key."""
TIME_LIMIT_US = 253_402_300_800_000_000
"""The year 10,000."""
DEFAULT_GENERATION = 1

_OP_RANKS = {Op.UPSERT.value: OpRank.UPSERT.value, Op.DELETE.value: OpRank.DELETE.value}
_CREATED = envelope.CREATED.encode()
_ESCAPED_NUL = b"\\u0000"


class Reentries(NamedTuple):
    """The topic of what is sent back to flows, and which of them this is."""

    topic: str
    flow: str


class Decode:
    """Decodes the messages of the topics that it is given.

    ``policies`` names, by topic, the one entity type that may be spoken of there: who speaks of another one
    that the flow knows is told as no owner of it. ``reentries`` is ``None`` where nothing comes back.
    """

    def __init__(self, policies: Mapping[str, EntityPolicy], reentries: Reentries | None = None) -> None:
        self._policies = policies
        self._reentries = reentries
        self._owners = {policy.type: policy.owner for policy in policies.values()}
        self._written_by_several = {policy.type for policy in policies.values() if policy.writer is not None}

    def __call__(self, messages: Iterable[Message]) -> list[Change | Watermark | Failure]:
        """What is for another flow yields nothing."""
        decoded = map(self._decode, messages)
        return [item for item in decoded if item is not None]

    def _decode(self, message: Message) -> Change | Watermark | Failure | None:
        if message.poison is not None:
            return self._isolated(message, Poison(f"the flow died of it: {message.poison}"))
        try:
            headers = dict(message.headers)
            if envelope.WATERMARK_US in headers:
                if headers[envelope.WATERMARK_US] is None:
                    raise Undecodable(f"header {envelope.WATERMARK_US}: it must hold a time")
                time_us = _whole_number(headers, envelope.WATERMARK_US, 0, TIME_LIMIT_US)
                return Watermark(message.topic, message.partition, time_us)
            policy = self._policies.get(message.topic)
            if policy is None:
                return self._reentered(message)
            return self._change(policy, message, headers)
        except Undecodable as error:
            return Failure("decode", message, error)

    def _reentered(self, message: Message) -> Change | Watermark | Failure | None:
        if self._reentries is None or message.topic != self._reentries.topic:
            raise _topic_of_no_entity(message)
        reentry = unwrap(message)
        if reentry.flow != self._reentries.flow:
            return None
        if isinstance(reentry, Replay):
            return self._replayed(message, reentry)
        if isinstance(reentry, Retry):
            return self._retried(message, reentry)
        return self._resolved(message, reentry)

    def _isolated(self, message: Message, error: Poison) -> Failure | None:
        """What killed the flow is not looked into, but for the wrapping that says whose it is."""
        if self._reentries is None or message.topic != self._reentries.topic:
            return Failure("isolate", message, error)
        reentry = unwrap(message)
        if not isinstance(reentry, Replay) or reentry.quarantine_id is None:
            return Failure("isolate", message, error)
        replay_of = ReplayOf(reentry.quarantine_id, reentry.version)
        return Failure("isolate", message, error, undecoded_replay_of=replay_of)

    def _replayed(self, message: Message, replay: Replay) -> Change | Failure:
        """The original as if it had come where it came first, but for its place in the log."""
        original = message._replace(
            topic=replay.topic, key=replay.key, value=replay.value, headers=replay.headers
        )
        replay_of = None
        if replay.quarantine_id is not None:
            replay_of = ReplayOf(replay.quarantine_id, replay.version)
        try:
            policy = self._policies.get(original.topic)
            if policy is None:
                raise _topic_of_no_entity(original)
            headers = dict(original.headers)
            change = self._change(policy, original, headers)
        except Undecodable as error:
            return Failure("decode", message, error, undecoded_replay_of=replay_of)
        if isinstance(change, Failure):
            return Failure("decode", message, change.error, undecoded_replay_of=replay_of)
        return change._replace(
            version=change.version._replace(correction=replay.correction),
            event_id=change.event_id if headers.get(envelope.EVENT_ID) else message.position,
            message=message,
            replay_of=replay_of,
        )

    def _retried(self, message: Message, retry: Retry) -> Change | Watermark | Failure | None:
        """The original as if it had come again where it came first."""
        original = Message(
            retry.topic,
            retry.partition,
            retry.offset,
            retry.key,
            retry.value,
            retry.headers,
            retry.appended_at_us,
            message.received_at_us,
        )
        retry_of = RetryOf(retry.retry_id, retry.version, retry.turned_back)
        decoded = self._decode(original)
        if isinstance(decoded, Change):
            return decoded._replace(retry_of=retry_of)
        if isinstance(decoded, Failure):
            return decoded._replace(undecoded_retry_of=retry_of)
        return decoded

    def _resolved(self, message: Message, resolution: Resolution) -> Change | Failure:
        if resolution.entity_type not in self._written_by_several:
            raise Undecodable(f"entity_type: this flow reviews no {resolution.entity_type!r}")
        policy = EntityPolicy(resolution.entity_type, owner=SCHEMA, writer=RESOLUTION_PRODUCER)
        told = message._replace(key=resolution.document_id.encode(), value=change_payload(resolution))
        return self._change(policy, told, dict(told.headers))._replace(message=message)

    def _change(
        self, policy: EntityPolicy, message: Message, headers: Mapping[str, bytes | None]
    ) -> Change | Failure:
        payload = _payload(message.value)
        entity = self._entity(policy, message, payload)
        op_name = payload.get("op")
        if not isinstance(op_name, str) or (op_rank := _OP_RANKS.get(op_name)) is None:
            raise Undecodable(f"op: {op_name!r} is unknown; it must be 'upsert' or 'delete'")
        row_version = payload.get("version")
        if type(row_version) is not int or not 0 < row_version < INT64_LIMIT:
            raise Undecodable(f"version: {row_version!r} must be a whole number from 1 to 2**63 - 1")
        fields = payload.get("fields")
        if type(fields) is not dict:
            raise Undecodable(f"fields: a {type(fields).__name__} is no set of columns; it must be an object")
        event_id = headers.get(envelope.EVENT_ID)
        appended_at_us = message.appended_at_us
        generation = _whole_number(headers, envelope.GENERATION, DEFAULT_GENERATION)
        # By position: names would make up a tenth of what decoding costs.
        change = Change(
            entity,
            op_name,
            fields,
            Version(generation, row_version, op_rank),
            _content_hash(op_name, fields if op_rank == OpRank.UPSERT else {}),
            _text("header id", event_id) if event_id else message.position,
            headers.get(envelope.EVENT_TYPE) == _CREATED,
            policy.producer,
            _whole_number(headers, envelope.COMMITTED_AT_US, appended_at_us, TIME_LIMIT_US),
            envelope.COMMITTED_AT_US not in headers or headers.get(envelope.COMMIT_TIME_IS_ESTIMATED) == b"1",
            _whole_number(headers, envelope.DETECTED_AT_US, appended_at_us, TIME_LIMIT_US),
            message,
        )
        if entity.type == policy.type:
            return change
        owner = self._owners[entity.type]
        return Failure("decode", message, NotOwner(str(entity), owner, policy.producer), change)

    def _entity(self, policy: EntityPolicy, message: Message, payload: Mapping[str, Any]) -> EntityKey:
        text = payload.get("entity")
        if type(text) is not str:
            raise Undecodable(f"entity: {text!r} must be text such as '{policy.type}:...'")
        if len(text) > ENTITY_MAX_LENGTH:
            raise Undecodable(f"entity: {len(text)} characters are more than {ENTITY_MAX_LENGTH}")
        entity_type, _, entity_id = text.partition(":")
        if entity_type == policy.type:
            _check_id(policy, message, text, entity_id)
        elif entity_type not in self._owners:
            raise Undecodable(
                f"entity: {text!r} does not belong on {message.topic}, only '{policy.type}:...'"
            )
        return EntityKey(entity_type, entity_id)


def _topic_of_no_entity(message: Message) -> Undecodable:
    return Undecodable(f"topic: {message.topic!r} belongs to no entity that Syncline knows")


def _check_id(policy: EntityPolicy, message: Message, text: str, entity_id: str) -> None:
    slot, document_id = policy.split_id(entity_id)
    if not document_id or (policy.slot_column and not slot):
        raise Undecodable(f"entity: {text!r} is incomplete")
    if len(document_id) > DOCUMENT_ID_MAX_LENGTH:
        raise Undecodable(
            f"entity: the {policy.document_column} of {len(document_id)} characters is longer than "
            f"{DOCUMENT_ID_MAX_LENGTH}"
        )
    if message.key != document_id.encode():
        key = None if message.key is None else message.key.decode(errors="replace")
        raise Undecodable(
            f"key: {key!r} must be the {policy.document_column} of {text!r}, "
            "or the order of its changes is lost"
        )


def _payload(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise Undecodable("value: there is none; a delete is a payload with op 'delete'")
    try:
        payload = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"value: this is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise Undecodable(f"value: a {type(payload).__name__} is no change; it must be an object")
    if _ESCAPED_NUL in value:
        _refuse_nul(payload)
    return payload


def _refuse_nul(payload: dict[str, Any]) -> None:
    try:
        holds_nul = _holds_nul(payload)
    except RecursionError as error:
        raise Undecodable("value: this is nested too deep to be looked through") from error
    if holds_nul:
        raise Undecodable("value: a text holds the character U+0000, which no database can store")


def _content_hash(op_name: str, fields: dict[str, Any]) -> str:
    try:
        return content_hash(op_name, fields)
    except orjson.JSONEncodeError as error:
        # What can be read may be nested deeper than can be written.
        raise Undecodable(f"fields: these cannot be written as JSON again: {error}") from error


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


def _whole_number(
    headers: Mapping[str, bytes | None], name: str, default: int, limit: int = INT64_LIMIT
) -> int:
    value = headers.get(name)
    if value is None:
        return default
    try:
        number = int(value)
    except ValueError as error:
        raise Undecodable(f"header {name}: {value!r} must be a whole number") from error
    if not 0 <= number < limit:
        raise Undecodable(f"header {name}: {number} must lie between 0 and {limit - 1}")
    return number


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(f"{name}: {value!r} is not UTF-8") from error
    if "\0" in text:
        raise Undecodable(f"{name}: {text!r} holds the character U+0000")
    return text


@dataclass(frozen=True)
class DecodedStreams:
    """``conflicts`` are of changes whose producer does not own what they speak of; they belong in an audit,
    as ``errs`` do in a quarantine."""

    oks: Stream[list[Change | Watermark]]
    conflicts: Stream[Conflict]
    errs: Stream[Failure]


@operator
def decode(
    step_id: str,
    up: Stream[Message],
    policies: Mapping[str, EntityPolicy],
    reentries: Reentries | None = None,
) -> DecodedStreams:
    """Turn messages into changes and watermarks, in order."""
    batches: Stream[Sequence[Message]] = op.flat_map_batch("gather", up, lambda messages: [messages])
    decoded: Fallible[Change | Watermark] = try_batches("each", batches, Decode(policies, reentries))
    return DecodedStreams(
        oks=decoded.oks,
        conflicts=op.filter_map("conflicts", decoded.errs, usurpation),
        errs=op.filter("failed", decoded.errs, lambda failure: usurpation(failure) is None),
    )


def usurpation(failure: Failure) -> Conflict | None:
    """The record of a write by a service that does not own the entity; ``None`` of other failures."""
    change = failure.change
    if change is None or not isinstance(failure.error, NotOwner):
        return None
    return Conflict(
        ConflictKind.OWNERSHIP,
        change.entity,
        field="",
        known=Side.unseen(failure.error.owner),
        arrived=Side.of_change(change),
        event_id=change.event_id,
        won=False,
        rule=str(failure.error),
    )
