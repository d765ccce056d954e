"""Whether what policy files say fits together: columns that exist, types that compare, rules to be kept."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations

from syncline.model.values import E4_DECIMALS, E4_WHOLE_DIGITS
from syncline.policies.columns import TRANSFORMS, ColumnType
from syncline.policies.customer_profile import CUSTOMER_COLUMNS
from syncline.policies.documents import COUNT, DOCUMENTS, FieldKind
from syncline.policies.faults import unknown
from syncline.policies.field_merge import MERGE_RULES
from syncline.policies.ownership import entities_of
from syncline.policies.policy_file import (
    Condition,
    FieldOwnership,
    FieldSection,
    FlowSection,
    PolicyFile,
    RuleSection,
)
from syncline.policies.toml_lines import Path as Keys

Findings = Iterator[tuple[Keys, str]]
"""Where something is wrong, and what would be right."""


def check_one(policy: PolicyFile, unsure: Collection[str] = ()) -> Findings:
    """What is wrong with one file by itself. ``unsure`` columns and fields are left out of it, since they are
    wrong themselves."""
    return _Check(policy, unsure).all()


class _Check:
    def __init__(self, policy: PolicyFile, unsure: Collection[str]) -> None:
        self._policy = policy
        self._unsure = unsure
        self._types = {name: ColumnType.parse(column.type) for name, column in policy.columns.items()}

    def all(self) -> Findings:
        source = self._policy.source
        yield from self._column(source.document, ("source", "document"))
        if source.slot is not None:
            yield from self._column(source.slot, ("source", "slot"))
        for name, flow in self._policy.flows.items():
            yield from self._flow(name, flow)
        for number, rule in enumerate(self._policy.rules):
            yield from self._rule(rule, ("rules", number))
        yield from self._writers()

    def _column(self, column: str, place: Keys) -> Findings:
        if column not in self._types and column not in self._unsure:
            yield place, unknown(column, "column", list(self._types))

    def _flow(self, name: str, flow: FlowSection) -> Findings:
        place: Keys = ("flows", name)
        if name not in DOCUMENTS:
            yield place, unknown(name, "flow", list(DOCUMENTS))
            return
        documents = DOCUMENTS[name]
        if self._policy.entity not in documents:
            yield place, unknown(self._policy.entity, f"entity in the documents of {name}", list(documents))
            return
        for number, condition in enumerate(flow.where):
            if condition.column:
                yield from self._condition(condition, (*place, "where", number))
        document = documents[self._policy.entity]
        for field, source in flow.fields.items():
            at = (*place, "fields", field)
            if field not in document.fields:
                yield at, unknown(field, "field of the document", list(document.fields))
            yield from self._field(source, document.fields.get(field), at)
        for field in document.needed:
            if field not in flow.fields and field not in self._unsure:
                yield (
                    (*place, "fields"),
                    f"the document needs the field {field}; say which column it comes from",
                )

    def _condition(self, condition: Condition, place: Keys) -> Findings:
        kind = self._types.get(condition.column)
        members = condition.one_of or condition.none_of
        if kind is None:
            yield from self._column(condition.column, (*place, "column"))
        elif members is not None:
            yield from _members(condition.column, kind, members, place)

    def _field(self, source: FieldSection, kind: FieldKind | None, place: Keys) -> Findings:
        column = self._types.get(source.from_)
        if column is None:
            yield from self._column(source.from_, place)
        elif column.name not in TRANSFORMS[source.transform]:
            right = ", ".join(TRANSFORMS[source.transform])
            yield place, f"{source.transform} takes {right}, and {source.from_} is {column.name}"
        elif source.transform == "e4" and column.parameters[1] > E4_DECIMALS:
            yield place, f"e4 keeps {E4_DECIMALS} decimals, and {source.from_} has {column.parameters[1]}"
        elif source.transform == "e4" and column.parameters[0] - column.parameters[1] > E4_WHOLE_DIGITS:
            yield place, f"e4 takes {E4_WHOLE_DIGITS} digits before the point, and {source.from_} has more"
        elif kind is COUNT and not self._policy.columns[source.from_].required:
            yield (
                place,
                f'the field is never null: write {source.from_} = {{ type = "integer", required = true }}',
            )
        elif (
            kind is not None
            and source.python is None
            and (column.name not in kind.types or source.transform not in kind.transforms)
        ):
            yield place, f"the field takes {kind.right}, and this is {column} by {source.transform}"

    def _rule(self, rule: RuleSection, place: Keys) -> Findings:
        column = rule.required or rule.column
        if column is None:
            return
        at = (*place, "required" if rule.required else "column")
        kind = self._types.get(column)
        if kind is None:
            yield from self._column(column, at)
            return
        for each in filter(None, (column, rule.at_most)):
            if each in self._types and not self._is_kept(each):
                yield (
                    at,
                    f"no flow keeps {each} as it stands, so no rule can read it; map it in flows.*.fields",
                )
        if (rule.min is not None or rule.max is not None) and not kind.is_number:
            yield place, f"min and max are for numbers, and {column} is {kind.name}"
        if rule.min is not None and rule.max is not None and rule.min > rule.max:
            yield place, f"min is {rule.min:g}, above max, {rule.max:g}: nothing is right"
        if rule.one_of is not None:
            yield from _members(column, kind, rule.one_of, (*place, "one_of"))
        if rule.pattern is not None and not kind.is_text:
            yield (*place, "pattern"), f"a pattern is for text, and {column} is {kind.name}"
        if rule.at_most is not None:
            yield from self._comparison(column, kind, rule.at_most, (*place, "at_most"))

    def _comparison(self, column: str, kind: ColumnType, other: str, place: Keys) -> Findings:
        other_kind = self._types.get(other)
        if other_kind is None:
            yield from self._column(other, place)
        elif other_kind != kind:
            yield place, f"{column} is {kind}, and {other} is {other_kind}"
        elif not kind.is_number and kind.name != "timestamptz":
            yield place, f"numbers and times are compared, and {column} is {kind}"

    def _is_kept(self, column: str) -> bool:
        kept = {
            source.from_
            for flow in self._policy.flows.values()
            for source in flow.fields.values()
            if source.python is None
        }
        return bool(
            column == self._policy.source.slot
            or (self._policy.writers and column in CUSTOMER_COLUMNS)
            or column in kept
            # It may be one of those that were left out.
            or self._unsure
        )

    def _writers(self) -> Findings:
        policy = self._policy
        if not policy.writers:
            for name in policy.fields:
                owner = f"{policy.owner} alone writes this entity and owns its fields; give writers first"
                yield ("fields", name), owner
            return
        for column, section in policy.columns.items():
            place: Keys = ("columns", column)
            if column not in (*CUSTOMER_COLUMNS, policy.source.document):
                yield place, unknown(column, "column of a profile", CUSTOMER_COLUMNS)
            elif section.required:
                yield (*place, "required"), "a writer may leave out what others say; write a rule instead"
        for key in ("table", "topic"):
            named = getattr(policy.source, key)
            if named is not None and "{writer}" not in named:
                yield ("source", key), f"each writer has a {key} of its own: write {{writer}} for its name"
        for name, field in policy.fields.items():
            yield from self._ownership(name, field)
        for (one, first), (other, second) in combinations(policy.fields.items(), 2):
            if shared := set(first.columns or [one]) & set(second.columns or [other]):
                yield ("fields", other), f"{', '.join(sorted(shared))} belongs to the field {one} already"

    def _ownership(self, name: str, field: FieldOwnership) -> Findings:
        place: Keys = ("fields", name)
        columns = tuple(field.columns or [name])
        for writer in field.writers:
            if writer not in self._policy.writers:
                yield (*place, "writers"), unknown(writer, "writer", self._policy.writers)
        for column in columns:
            yield from self._column(column, (*place, "columns") if field.columns else place)
        if field.rule is not None and columns != (needed := MERGE_RULES[field.rule].columns):
            yield (*place, "rule"), f"{field.rule} reads {', '.join(needed)}, not {', '.join(columns)}"


def _topics(policy: PolicyFile) -> set[str]:
    return {entity.topic("{prefix}") for entity in entities_of(policy)}


def _members(column: str, kind: ColumnType, members: Collection[object], place: Keys) -> Findings:
    """Whether values of the column can be among these at all."""
    right = _MEMBERS.get(kind.name)
    if right is None:
        yield (
            place,
            f"{column} is {kind}, and cannot be looked up in a list; other conditions can speak of it",
        )
    elif wrong := [member for member in members if type(member) is not right[0]]:
        yield place, f"{column} is {kind}: {', '.join(map(repr, wrong))} must be {right[1]}"


_MEMBERS: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(("text", "char(n)", "uuid"), (str, 'text, in "..."')),
    **dict.fromkeys(("integer", "bigint"), (int, "whole numbers")),
    "boolean": (bool, "true or false"),
}
"""By type of column: what a list of its values is made of."""


def check_all(policies: Mapping[str, PolicyFile]) -> Iterator[tuple[str, Keys, str]]:
    """What is wrong between files, by the name of the file that is told of it."""
    for (one, first), (other, second) in combinations(policies.items(), 2):
        if first.entity == second.entity:
            yield other, ("entity",), f"{one} is about {first.entity} already"
        for topic in sorted(_topics(first) & _topics(second)):
            yield other, ("source", "topic"), f"{topic} is the topic of {first.entity} already"
    entities = [policy.entity for policy in policies.values()]
    for name, policy in policies.items():
        for number, rule in enumerate(policy.rules):
            if rule.references is None:
                continue
            place = ("rules", number, "references")
            if rule.references not in entities:
                yield name, place, unknown(rule.references, "entity", entities)
            elif rule.references not in _leading(policy, policies.values()):
                yield name, place, f"no document has {rule.references} once and {policy.entity} beside it"
            elif any(rule.references == earlier.references for earlier in policy.rules[:number]):
                yield name, place, f"{rule.references} is referred to by a rule above already"


def _leading(policy: PolicyFile, policies: Iterable[PolicyFile]) -> set[str]:
    """The entities that stand once in the documents that this one is a part of: without them it is hidden."""
    return {
        other.entity
        for other in policies
        if other is not policy and other.source.slot is None and other.flows.keys() & policy.flows.keys()
    }
