"""What the three writers of customers publish, as their tables' trigger keeps it, and resolutions, for tests.

Steps are told in seconds after noon; a schema's versions come from one sequence, here from the step.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from operators.decode import Decode
from operators.transform import Transform
from syncline.model import envelope
from syncline.model.change import Change, EntityKey, content_hash
from syncline.model.message import Message
from syncline.model.part import Part
from syncline.model.reentry import RESOLUTION_PRODUCER
from syncline.model.version import OpRank, Version
from syncline.policies.customer_profile import CUSTOMER_COLUMNS, resolution_body
from syncline.policies.reading import load_policies
from tests.changes import NOON_US, TOPIC_PREFIX

ANN = "a0000000-0000-4000-8000-000000000001"
BOB = "b0000000-0000-4000-8000-000000000002"

CUSTOMERS = load_policies().flow("customer_profiles")
TOPICS = {policy.producer: policy.topic(TOPIC_PREFIX) for policy in CUSTOMERS.entities}
_FIELD_OF_COLUMN = {column: field.name for field in CUSTOMERS.conflicts.fields for column in field.columns}

decode = Decode(CUSTOMERS.topics(TOPIC_PREFIX))
transform = Transform(CUSTOMERS, lambda: NOON_US)


class Wrote(NamedTuple):
    """A writer set columns of its row, at a second after noon."""

    writer: str
    version: int
    at: float
    columns: Mapping[str, object]
    made_at: float | None = None
    """The time that the writer gives the fields; where it gives none, the commit's."""
    based_on: Mapping[str, Mapping[str, int]] = {}
    customer: str = ANN


class Deleted(NamedTuple):
    """A writer deleted its row, which repeats its last version."""

    writer: str
    at: float
    customer: str = ANN


class Resolved(NamedTuple):
    """A person answered a review."""

    field: str
    value: object
    version: int
    at: float
    covers: Mapping[str, int]
    customer: str = ANN


Step = Wrote | Deleted | Resolved


def us(second: float) -> int:
    return NOON_US + round(second * 1_000_000)


def moment(second: float) -> str:
    at = datetime.fromtimestamp(us(second) / 1e6, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


class _Row:
    """One writer's row of one customer."""

    def __init__(self) -> None:
        self.version = 0
        self.exists = False
        self._empty()

    def _empty(self) -> None:
        self.columns: dict[str, object] = dict.fromkeys(CUSTOMER_COLUMNS)
        self.field_versions: dict[str, dict[str, object]] = {}
        self.based_on: dict[str, dict[str, int]] = {}

    def write(self, step: Wrote) -> None:
        changed = {
            _FIELD_OF_COLUMN[column]
            for column, value in step.columns.items()
            if value != self.columns[column]
        }
        self.columns.update(step.columns)
        self.version, self.exists = step.version, True
        made_at = moment(step.at if step.made_at is None else step.made_at)
        for field in sorted(changed):
            self.field_versions[field] = {"version": step.version, "at": made_at}
            self.based_on.pop(field, None)
            if field in step.based_on:
                self.based_on[field] = dict(step.based_on[field])

    def delete(self) -> None:
        self.exists = False
        self._empty()

    def as_sent(self, customer: str) -> dict[str, Any]:
        return {
            "id": customer,
            **self.columns,
            "field_versions": {field: dict(said) for field, said in self.field_versions.items()},
            "based_on": {field: dict(seen) for field, seen in self.based_on.items()},
        }


def published(steps: Sequence[Step]) -> list[Part]:
    """What each step comes to as a part, in the steps' order; they happen in the order of their times.

    To delete what is not there publishes nothing.
    """
    rows: dict[tuple[str, str], _Row] = {}
    parts: dict[int, Part] = {}
    for number, step in sorted(enumerate(steps), key=lambda numbered: numbered[1].at):
        if isinstance(step, Resolved):
            parts[number] = resolution_part(step)
            continue
        row = rows.setdefault((step.customer, step.writer), _Row())
        if isinstance(step, Wrote):
            row.write(step)
            parts[number] = row_part(
                step.writer, row.as_sent(step.customer), row.version, at=step.at, event=f"e{number}"
            )
        elif row.exists:
            last = row.as_sent(step.customer)
            row.delete()
            parts[number] = row_part(step.writer, last, row.version, "delete", at=step.at, event=f"e{number}")
    return [parts[number] for number in sorted(parts)]


def row_message(
    writer: str,
    row: Mapping[str, Any],
    version: int,
    op: str = "upsert",
    *,
    at: float = 0,
    event: str = "e",
    generation: int = 1,
) -> Message:
    """A change of a writer's row, as the relay publishes it."""
    payload = {"entity": f"customer:{row['id']}", "op": op, "version": version, "fields": dict(row)}
    headers = (
        (envelope.EVENT_ID, event.encode()),
        (envelope.COMMITTED_AT_US, str(us(at)).encode()),
        (envelope.GENERATION, str(generation).encode()),
    )
    key = str(row["id"]).encode()
    return Message(TOPICS[writer], 0, version, key, orjson.dumps(payload), headers, us(at), us(at))


def row_part(
    writer: str,
    row: Mapping[str, Any],
    version: int,
    op: str = "upsert",
    *,
    at: float = 0,
    event: str = "e",
    generation: int = 1,
) -> Part:
    """Through the real decode and transform."""
    message = row_message(writer, row, version, op, at=at, event=event, generation=generation)
    (change,) = decode([message])
    assert isinstance(change, Change), change
    (part,) = transform([change])
    assert isinstance(part, Part), part
    return part


def resolution_part(step: Resolved) -> Part:
    fields = {
        "field": step.field,
        "value": step.value,
        "covers": dict(step.covers),
        "at": moment(step.at),
        "by": "pat",
        "why": "asked the customer",
    }
    message = Message("syncline.sync.reentry", 0, step.version, b"", b"", (), us(step.at), us(step.at))
    change = Change(
        EntityKey("customer", step.customer),
        "upsert",
        fields,
        Version(1, step.version, OpRank.UPSERT),
        content_hash("upsert", fields),
        event_id=f"r{step.version}",
        is_first=False,
        producer=RESOLUTION_PRODUCER,
        committed_at_us=us(step.at),
        commit_time_is_estimated=False,
        detected_at_us=us(step.at),
        message=message,
    )
    entity, slot = f"customer:resolution:{step.field}:{step.customer}", f"resolution:{step.field}"
    body = resolution_body(fields, CUSTOMERS.conflicts)
    return Part(step.customer, entity, slot, body, change, NOON_US, NOON_US)
