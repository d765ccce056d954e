"""The customer's profile: what several writers say of one customer, and what stands of it, field by field.

The document keeps each writer's row, and each field's resolution, in its ``_sync`` block. What it shows is
computed from these alone, so it is the same whatever the order in which they came.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from syncline.model.change import EntityKey
from syncline.model.customers import Customer, CustomerColumns, Resolution
from syncline.model.decision import Candidate, Review
from syncline.model.document import Body, Detected, Document, empty_sync_block
from syncline.model.errors import Untransformable
from syncline.model.part import Part
from syncline.policies.field_conflicts import FieldConflicts, Said
from syncline.policies.field_history import FieldHistory
from syncline.policies.field_merge import RESOLUTION, FieldMerge, FieldVersion, Standing
from syncline.policies.strategies import ConflictPolicy, FieldPolicy

ENTITY_TYPE = "customer"
CUSTOMER_COLUMNS = tuple(CustomerColumns.__annotations__)
FUTURE_TOLERANCE_US = 5 * 60 * 1_000_000
"""How far a field's time may lie after the commit of the change that states it: clocks differ."""

_EMPTY_COLUMNS: Body = dict.fromkeys(CUSTOMER_COLUMNS)
_customer = TypeAdapter(Customer).validator.validate_python
_columns = TypeAdapter(CustomerColumns).validator.validate_python
_resolution = TypeAdapter(Resolution).validator.validate_python


def customer_body(fields: Mapping[str, Any]) -> Body:
    """A writer's row to the part's body. Raises ``pydantic.ValidationError``."""
    row: Customer = _customer(fields)
    return {
        **{column: row.get(column) for column in CUSTOMER_COLUMNS},
        "field_versions": {
            field: {"version": said["version"], "at_us": said["at"]}
            for field, said in row["field_versions"].items()
        },
        "based_on": row.get("based_on") or {},
    }


def resolution_body(fields: Mapping[str, Any], policy: ConflictPolicy) -> Body:
    """A resolution to the part's body; the value of a field of several columns is an object of these.

    Raises ``pydantic.ValidationError`` and ``Untransformable``.
    """
    said: Resolution = _resolution(fields)
    by_name = {field.name: field for field in policy.fields}
    field = by_name.get(said["field"])
    if field is None:
        raise Untransformable(f"field: {said['field']!r} is unknown; it must be one of {', '.join(by_name)}")
    return {
        "value": _value(field, _columns(_by_column(field, said["value"]))),
        "covers": said["covers"],
        "at_us": said["at"],
        "by": said["by"],
        "why": said["why"],
    }


class CustomerProfile:
    """The shape of ``profiles.customers``: one document a customer."""

    listed_by = ()

    def __init__(self, policy: ConflictPolicy) -> None:
        self._merges = {field.name: FieldMerge(field, policy.concurrency_window) for field in policy.fields}

    def empty(self, document_id: str) -> Document:
        sync = {**empty_sync_block(), "rows": {}, "resolutions": {}, "history": {}, "reviewed": []}
        return {"id": document_id, **_EMPTY_COLUMNS, "_sync": sync}

    def put(self, document: Document, part: Part) -> Body | None:
        sync, (kind, _, field) = document["_sync"], part.slot.partition(":")
        section, key = (sync["resolutions"], field) if kind == RESOLUTION else (sync["rows"], part.slot)
        replaced: Body | None = section.pop(key, None)
        if part.body is not None:
            section[key] = _as_kept(part, part.body)
        return replaced

    def standing(self, document: Document) -> dict[str, Standing | None]:
        """What stands of each field of the policy; ``None`` where nobody says anything."""
        candidates = self._candidates(document)
        return {name: merge.standing(candidates[name]) for name, merge in self._merges.items()}

    def add_up(self, document: Document) -> None:
        reviewed = document["_sync"]["reviewed"]
        for name, standing in self.standing(document).items():
            merge = self._merges[name]
            columns = merge.policy.columns
            if standing is None:
                document.update(dict.fromkeys(columns))
                continue
            document.update(_by_column(merge.policy, standing.chosen.value))
            if standing.needs_review and name not in reviewed:
                reviewed.append(name)

    def is_hidden(self, document: Document) -> bool:
        """A customer of whom no writer has a row left; resolutions alone make none."""
        return not document["_sync"]["rows"]

    def conflicts(self, document: Document, parts: Iterable[Part]) -> Detected:
        history = FieldHistory(document["_sync"]["history"])
        # The oldest first: what several of them say was brought by the first.
        said = [(part, self._said(part)) for part in sorted(parts, key=lambda part: part.rank)]
        noted = [
            history.remember(merge.policy.name, made, part.version.row)
            for part, stated in said
            for merge, made, _ in stated
        ]
        entity = EntityKey(ENTITY_TYPE, document["id"])
        conflicts = [
            conflict for part, stated in said for conflict in FieldConflicts(entity, history, part, stated)
        ]
        return Detected(conflicts, any(noted))

    def reviews(self, document: Document) -> Sequence[Review]:
        candidates = self._candidates(document)
        return [
            self._review(document, self._merges[name], candidates[name])
            for name in document["_sync"]["reviewed"]
            if name in self._merges
        ]

    def _review(self, document: Document, merge: FieldMerge, candidates: list[FieldVersion]) -> Review:
        standing = merge.standing(candidates)
        return Review(
            EntityKey(ENTITY_TYPE, document["id"]),
            merge.policy.name,
            {
                head.writer: Candidate(head.value, head.version, head.at_us)
                for head in (standing.heads if standing is not None else ())
            },
            standing=standing.chosen.writer if standing is not None else "",
            is_open=standing is not None and standing.needs_review,
            document_version=document["_sync"]["version"],
        )

    def _candidates(self, document: Document) -> dict[str, list[FieldVersion]]:
        """By field: each writer's newest value, and a person's."""
        candidates: dict[str, list[FieldVersion]] = {name: [] for name in self._merges}
        sync = document["_sync"]
        stated = [
            *(self._of_row(writer, kept) for writer, kept in sync["rows"].items()),
            *(self._of_resolution(field, kept) for field, kept in sync["resolutions"].items()),
        ]
        for made in stated:
            for merge, value in made:
                if merge.may_write(value.writer):
                    candidates[merge.policy.name].append(value)
        return candidates

    def _said(self, part: Part) -> list[Said]:
        if part.body is None:
            return []
        kept = _as_kept(part, part.body)
        kind, _, field = part.slot.partition(":")
        if kind == RESOLUTION:
            is_put_right = kept["at_us"] != part.body["at_us"]
            return [(*made, is_put_right) for made in self._of_resolution(field, kept)]
        stated = part.body["field_versions"]
        return [
            (merge, made, made.at_us != stated[merge.policy.name]["at_us"])
            for merge, made in self._of_row(part.slot, kept)
        ]

    def _of_row(self, writer: str, kept: Body) -> Iterator[tuple[FieldMerge, FieldVersion]]:
        """A writer's value of each field of the policy that it ever set, its own or not."""
        for field, said in kept["field_versions"].items():
            merge = self._merges.get(field)
            if merge is not None:
                value, based_on = _value(merge.policy, kept), kept["based_on"].get(field, {})
                yield merge, FieldVersion.made(writer, said["version"], said["at_us"], value, based_on)

    def _of_resolution(self, field: str, kept: Body) -> Iterator[tuple[FieldMerge, FieldVersion]]:
        merge = self._merges.get(field)
        if merge is not None:
            made = kept["version"], kept["at_us"], kept["value"], kept["covers"]
            yield merge, FieldVersion.made(RESOLUTION, *made)


def _as_kept(part: Part, body: Body) -> Body:
    """The body as the document keeps it: with no time that lies in the future of its change's commit."""
    committed_at_us = part.change.committed_at_us

    def put_right(at_us: int) -> int:
        return at_us if at_us <= committed_at_us + FUTURE_TOLERANCE_US else committed_at_us

    if part.slot.startswith(f"{RESOLUTION}:"):
        return {**body, "version": part.version.row, "at_us": put_right(body["at_us"])}
    field_versions = {
        field: {"version": said["version"], "at_us": put_right(said["at_us"])}
        for field, said in body["field_versions"].items()
    }
    return {**body, "field_versions": field_versions}


def _value(field: FieldPolicy, columns: Mapping[str, Any]) -> object:
    if len(field.columns) == 1:
        return columns[field.columns[0]]
    return {column: columns[column] for column in field.columns}


def _by_column(field: FieldPolicy, value: object) -> Body:
    if len(field.columns) == 1:
        return {field.columns[0]: value}
    if not isinstance(value, dict) or value.keys() != set(field.columns):
        raise Untransformable(
            f"value: {value!r} is no {field.name}; it must be an object of {', '.join(field.columns)}"
        )
    return dict(value)
