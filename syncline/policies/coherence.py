"""Whether what policy files say fits together: columns that exist, types that compare, rules to be kept."""

from collections.abc import Iterator, Mapping
from itertools import combinations

from syncline.policies.columns import TRANSFORMS, ColumnType
from syncline.policies.documents import DOCUMENTS
from syncline.policies.faults import unknown
from syncline.policies.policy_file import FlowSection, PolicyFile, RuleSection
from syncline.policies.toml_lines import Path as Keys

Told = Iterator[tuple[Keys, str]]
"""Where something is wrong, and what would be right."""


def check_one(policy: PolicyFile) -> Told:
    """What is wrong with one file by itself."""
    for key, column in (("document", policy.source.document), ("slot", policy.source.slot)):
        if column is not None:
            yield from _column(policy, column, ("source", key))
    for name, flow in policy.flows.items():
        yield from _check_flow(policy, name, flow)
    for number, rule in enumerate(policy.rules):
        yield from _check_rule(policy, rule, ("rules", number))
    yield from _check_writers(policy)


def _check_flow(policy: PolicyFile, name: str, flow: FlowSection) -> Told:
    place: Keys = ("flows", name)
    if name not in DOCUMENTS:
        yield place, unknown(name, "flow", list(DOCUMENTS))
        return
    for number, condition in enumerate(flow.where):
        yield from _column(policy, condition.column, (*place, "where", number, "column"))
    document = DOCUMENTS[name].get(policy.entity)
    if document is None:
        yield place, unknown(policy.entity, f"entity in the documents of {name}", list(DOCUMENTS[name]))
        return
    for field, source in flow.fields.items():
        at = (*place, "fields", field)
        if field not in document.fields:
            yield at, unknown(field, "field of the document", document.fields)
        yield from _column(policy, source.from_, at)
        if source.from_ in policy.columns:
            column = ColumnType.parse(policy.columns[source.from_].type)
            if column.name not in TRANSFORMS[source.transform]:
                right = ", ".join(TRANSFORMS[source.transform])
                yield at, f"{source.transform} takes {right}, and {source.from_} is {column.name}"
            elif source.transform == "e4" and column.parameters[1] > 4:
                yield at, f"e4 keeps 4 decimals, and {source.from_} has {column.parameters[1]}"
    for field in document.needed:
        if field not in flow.fields:
            yield (*place, "fields"), f"the document needs the field {field}; say which column it comes from"


def _check_rule(policy: PolicyFile, rule: RuleSection, place: Keys) -> Told:
    column = rule.required or rule.column
    if column is None:
        return
    key = "required" if rule.required else "column"
    if column not in policy.columns:
        yield from _column(policy, column, (*place, key))
        return
    kind = ColumnType.parse(policy.columns[column].type)
    if not _is_kept(policy, column):
        yield (*place, key), f"no flow keeps {column}, so nothing can be said of it; map it in flows.*.fields"
    if (rule.min is not None or rule.max is not None) and not kind.is_number:
        yield place, f"min and max are for numbers, and {column} is {kind.name}"
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        yield place, f"min is {rule.min:g}, above max, {rule.max:g}: nothing is right"
    if rule.pattern is not None and not kind.is_text:
        yield (*place, "pattern"), f"a pattern is for text, and {column} is {kind.name}"
    if rule.at_most is not None:
        if rule.at_most not in policy.columns:
            yield from _column(policy, rule.at_most, (*place, "at_most"))
        elif policy.columns[rule.at_most].type != policy.columns[column].type:
            other = policy.columns[rule.at_most].type
            yield (
                (*place, "at_most"),
                f"{column} is {policy.columns[column].type}, and {rule.at_most} is {other}",
            )
        elif not kind.is_number and kind.name != "timestamptz":
            yield (*place, "at_most"), f"numbers and times are compared, and {column} is {kind.name}"


def _is_kept(policy: PolicyFile, column: str) -> bool:
    return (
        column == policy.source.slot
        or bool(policy.writers)
        or any(source.from_ == column for flow in policy.flows.values() for source in flow.fields.values())
    )


def _check_writers(policy: PolicyFile) -> Told:
    for name, field in policy.fields.items():
        place: Keys = ("fields", name)
        if not policy.writers:
            yield place, f"{policy.owner} alone writes this entity and owns its fields; give writers first"
            continue
        for writer in field.writers:
            if writer not in policy.writers:
                yield (*place, "writers"), unknown(writer, "writer", policy.writers)
        for column in field.columns or [name]:
            yield from _column(policy, column, (*place, "columns") if field.columns else place)
    for (one, first), (other, second) in combinations(policy.fields.items(), 2):
        if shared := set(first.columns or [one]) & set(second.columns or [other]):
            yield ("fields", other), f"{', '.join(sorted(shared))} belongs to the field {one} already"
    if policy.writers and "{writer}" not in policy.source.table:
        yield (
            ("source", "table"),
            "each writer has a table of its own: write {writer} for its name",
        )


def _column(policy: PolicyFile, column: str, place: Keys) -> Told:
    if column not in policy.columns:
        yield place, unknown(column, "column", list(policy.columns))


def check_all(policies: Mapping[str, PolicyFile]) -> Iterator[tuple[str, Keys, str]]:
    """What is wrong between files, by the name of the file that is told of it."""
    for (one, first), (other, second) in combinations(policies.items(), 2):
        if first.entity == second.entity:
            yield other, ("entity",), f"{one} is about {first.entity} already"
        if first.source.topic is not None and first.source.topic == second.source.topic:
            yield other, ("source", "topic"), f"{first.source.topic} is the topic of {first.entity} already"
    entities = [policy.entity for policy in policies.values()]
    for name, policy in policies.items():
        for number, rule in enumerate(policy.rules):
            if rule.references is not None and rule.references not in entities:
                yield name, ("rules", number, "references"), unknown(rule.references, "entity", entities)
