"""What a person chose of a conflict or a review, checked and made ready to be sent. Pure, but that what stood
is asked for where it is needed."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from syncline.model import envelope
from syncline.model.change import Op
from syncline.model.decision import ConflictKind
from syncline.model.errors import NotPossible
from syncline.model.version import OpRank, Version
from syncline.monitor.audited_conflicts import AuditedConflict, AuditedReview, AuditedSide
from syncline.policies.ownership import EntityPolicy

SIDES = {"stored": "known", "incoming": "arrived"}
"""How a person calls the two sides of a conflict, and how the audit does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``take`` is a writer, ``incoming`` or ``stored``; ``settings`` are field and value as text."""

    take: str | None
    settings: Sequence[tuple[str, str]]
    by: str
    why: str

    def __post_init__(self) -> None:
        if not self.by.strip() or not self.why.strip():
            raise NotPossible("who decides and why must be said: --by NAME --why TEXT")
        if self.take is None and not self.settings:
            raise NotPossible("say what is right: --take, or --set field=value")


class Sending(NamedTuple):
    """What goes into the outbox, but for the version that is drawn for it."""

    kind: str
    document_id: str
    payload: dict[str, Any]


class Answer(NamedTuple):
    """``sending`` is ``None`` where what was chosen stands already; ``how`` goes on record."""

    how: dict[str, Any]
    sending: Sending | None


def answer_review(review: AuditedReview, choice: Choice, version: int, now: datetime) -> Answer:
    """A resolution that covers what the review showed. Raises ``NotPossible``."""
    if review.state == "closed":
        raise NotPossible(f"{review.name} is closed; there is nothing left to decide")
    value = _chosen_value(review, choice)
    covers = {writer: candidate.version for writer, candidate in review.candidates.items()}
    payload = {
        "kind": "resolution",
        "flow": review.flow,
        "entity_type": review.entity_type,
        "document_id": review.entity_id,
        "field": review.field,
        "value": value,
        "covers": covers,
        "at": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "by": choice.by,
        "why": choice.why,
        "version": version,
    }
    how = {**_told(choice), "value": value, "covers": covers, "version": version}
    return Answer(how, Sending("resolution", review.entity_id, payload))


def _chosen_value(review: AuditedReview, choice: Choice) -> object:
    candidates = {writer: candidate.value for writer, candidate in review.candidates.items()}
    if choice.take is None:
        (field, text), *others = choice.settings
        if others or field != review.field:
            raise NotPossible(f"{review.name} is about one field: --set {review.field}=VALUE")
        return value_of(field, text, candidates.values())
    if choice.settings:
        raise NotPossible(f"{review.name} is about one value: --take or --set, not both")
    return candidates[_writer(review, choice.take)]


def _writer(review: AuditedReview, take: str) -> str:
    """The writer that is meant. With two candidates it is clear which of them came and which stood."""
    if take in review.candidates:
        return take
    if take == "stored":
        return review.standing
    others = [writer for writer in review.candidates if writer != review.standing]
    if take == "incoming" and len(others) == 1:
        return others[0]
    raise NotPossible(f"{take}: {review.name} has values of {', '.join(sorted(review.candidates))}; take one")


def answer_conflict(
    conflict: AuditedConflict,
    choice: Choice,
    entities: Iterable[EntityPolicy],
    topic_prefix: str,
    version: int,
    stored_content: Callable[[AuditedConflict], Mapping[str, Any]],
) -> Answer:
    """A replay of the chosen content above the one that stands, or nothing where that is the chosen one.

    ``stored_content`` answers what the side stored said, of which the audit has only the position. Raises
    what it raises, and ``NotPossible``, which says what would be right.
    """
    _check_kind(conflict)
    if conflict.resolution is not None and conflict.is_resolved:
        by, why = conflict.resolution.by, conflict.resolution.why
        raise NotPossible(f"{conflict.name} was resolved by {by}: {why}")
    winner = getattr(conflict, conflict.winner)
    taken = winner if choice.take is None else _side(conflict, choice.take)
    if taken is winner and not choice.settings:
        return Answer(_told(choice), None)
    content = taken.value if isinstance(taken.value, dict) else stored_content(conflict)
    content = _with_settings(conflict, content, choice.settings)
    replay = _replay(conflict, content, choice, _policy(conflict, entities), topic_prefix, version)
    return Answer({**_told(choice), "value": content, "version": version}, replay)


def _check_kind(conflict: AuditedConflict) -> None:
    if conflict.kind is ConflictKind.OWNERSHIP:
        what = conflict.field or conflict.entity_type
        raise NotPossible(
            f"{conflict.name}: {conflict.arrived.writer} may not write {what}, whatever it says. If it is "
            "right, the owner must write it; if it should be allowed to, change the policy"
        )
    if conflict.kind is ConflictKind.BUSINESS_RULE:
        raise NotPossible(
            f"{conflict.name}: this breaks the rule {conflict.rule}, and no copy takes it. Correct it at its "
            "owner, or correct it in quarantine and replay it from there"
        )
    if conflict.field:
        raise NotPossible(
            f"{conflict.name}: {conflict.field} was decided by {conflict.rule}. Where a person is to decide, "
            "there is an open review: syncline conflicts list --open. Else write the right value at a "
            "service that may write it"
        )
    if conflict.kind is not ConflictKind.VERSION:
        raise NotPossible(f"{conflict.name}: a conflict of kind {conflict.kind} is decided by its rule")


def _side(conflict: AuditedConflict, take: str) -> AuditedSide:
    if take in SIDES:
        side: AuditedSide = getattr(conflict, SIDES[take])
        return side
    if conflict.known.writer != conflict.arrived.writer:
        for each in (conflict.known, conflict.arrived):
            if each.writer == take:
                return each
    raise NotPossible(f"{take}: {conflict.name} has two sides, incoming and stored; take one")


def _with_settings(
    conflict: AuditedConflict, content: Mapping[str, Any], settings: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    fields = dict(content)
    for field, text in settings:
        if field not in fields:
            raise NotPossible(f"{field}: {conflict.name} has the fields {', '.join(sorted(fields))}")
        fields[field] = value_of(field, text, [fields[field]])
    return fields


def value_of(field: str, text: str, alike: Collection[object]) -> object:
    """The text as a value of the kind that the field has: as it is where that is text, else as JSON.

    ``null`` is none in any case. Raises ``NotPossible``.
    """
    if text == "null":
        return None
    known = [value for value in alike if value is not None]
    if all(isinstance(value, str) for value in known):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotPossible(f"{field}: {text} is not JSON, as in {orjson.dumps(known[0]).decode()}") from error


def _replay(
    conflict: AuditedConflict,
    content: Mapping[str, Any],
    choice: Choice,
    policy: EntityPolicy,
    topic_prefix: str,
    version: int,
) -> Sending:
    """The change as its owner's topic would bring it, corrected.

    The correction is the version drawn for it, which is higher than that of any answer before.
    """
    stands = Version(*getattr(conflict, conflict.winner).version)
    entity, document_id = conflict.entity, policy.split_id(conflict.entity_id)[1]
    op = Op.DELETE if stands.op_rank == OpRank.DELETE else Op.UPSERT
    value = {"entity": entity, "op": op, "version": stands.row, "fields": content}
    headers = {envelope.EVENT_ID: conflict.arrived_event_id, envelope.GENERATION: str(stands.generation)}
    payload = {
        "kind": "replay",
        "flow": conflict.flow,
        "quarantine_id": None,
        "topic": policy.topic(topic_prefix),
        "key": document_id.encode().hex(),
        "value": orjson.dumps(value).hex(),
        "headers": [[name, text.encode().hex()] for name, text in headers.items()],
        "correction": version,
        "by": choice.by,
        "why": choice.why,
        "version": version,
    }
    return Sending("replay", document_id, payload)


def _policy(conflict: AuditedConflict, entities: Iterable[EntityPolicy]) -> EntityPolicy:
    for policy in entities:
        if (policy.type, policy.producer) == (conflict.entity_type, conflict.arrived.writer):
            return policy
    raise NotPossible(f"{conflict.name}: {conflict.arrived.writer} writes no {conflict.entity_type} any more")


def _told(choice: Choice) -> dict[str, Any]:
    """As the person said it."""
    return {"take": choice.take, "set": dict(choice.settings)}
