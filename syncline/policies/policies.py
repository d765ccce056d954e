"""The policies as the flows use them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial

from syncline.model.errors import Misconfigured
from syncline.policies import rules
from syncline.policies.columns import ColumnType, Mapper, Source, compile_mapper, function_of
from syncline.policies.customer_profile import customer_body
from syncline.policies.documents import DOCUMENTS
from syncline.policies.field_merge import RESOLUTION
from syncline.policies.ownership import EntityPolicy, entities_of
from syncline.policies.policy_file import FlowSection, PolicyFile, RuleSection
from syncline.policies.rules import Rule, Value
from syncline.policies.strategies import ConflictPolicy, FieldPolicy, Strategy
from syncline.policies.subscriptions import Subscription, Wish


@dataclass(frozen=True, slots=True)
class Reference:
    """Entities of one type need one of another: until it comes they are hidden, and told of after a while."""

    entity: str
    referenced: str
    grace: timedelta


class _Files:
    """Some policies, and what follows from them whichever they are."""

    files: tuple[PolicyFile, ...]

    @cached_property
    def entities(self) -> tuple[EntityPolicy, ...]:
        """One for each service that writes an entity."""
        return tuple(entity for file in self.files for entity in entities_of(file))

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """The schemas that have an outbox."""
        return tuple(dict.fromkeys(file.owner for file in self.files))

    def topics(self, prefix: str) -> dict[str, EntityPolicy]:
        """All topics, each with the policy of those who write there. Who writes a change is told by its
        topic, which access control protects; never by its payload."""
        return {entity.topic(prefix): entity for entity in self.entities}


@dataclass(frozen=True)
class FlowPolicy(_Files):
    """All that is decided about one flow."""

    name: str
    files: tuple[PolicyFile, ...]
    """Of the entities that the flow subscribes to."""

    @cached_property
    def subscription(self) -> Subscription:
        return Subscription(self.name, {file.entity: Wish.of(file.flows[self.name]) for file in self.files})

    @cached_property
    def critical(self) -> frozenset[str]:
        """Entity types whose changes overtake those of others."""
        return frozenset(file.entity for file in self.files if file.criticality == "critical")

    @cached_property
    def conflicts(self) -> ConflictPolicy:
        """Of the entity that several services write. Raises ``Misconfigured`` where there is none."""
        for file in self.files:
            if file.writers:
                return _conflict_policy(file)
        raise Misconfigured(f"no entity of {self.name} names its writers, so there is nothing to merge")

    @cached_property
    def mapping(self) -> Mapping[str, Mapper]:
        """By entity type: a row's columns to the fields of its part."""
        return {
            # Rows of several writers are kept whole, to be merged.
            file.entity: customer_body
            if file.writers
            else compile_mapper(_sources(file, self.name), DOCUMENTS[self.name][file.entity].fields)
            for file in self.files
        }

    @cached_property
    def rules(self) -> Mapping[str, Sequence[Rule]]:
        """By entity type; and by ``customer:resolution:email`` for what persons say of one field.

        A delete has no body and breaks no rule.
        """
        return {
            about: tuple(rules)
            for file in self.files
            for about, rules in (
                (file.entity, _rules_of_rows(file, file.flows[self.name])),
                *_rules_of_resolutions(file),
            )
        }


@dataclass(frozen=True)
class Policies(_Files):
    files: tuple[PolicyFile, ...]

    @property
    def recipients(self) -> Mapping[str, Collection[str]]:
        """By entity type: who is told of what goes wrong with it."""
        return {file.entity: frozenset(file.notify) for file in self.files}

    @property
    def personal(self) -> Collection[str]:
        """Entity types that hold data of persons: what is told of them names ids and never a value."""
        return {file.entity for file in self.files if file.personal}

    def of(self, entity: str) -> PolicyFile:
        """What is decided about an entity. Raises ``Misconfigured``."""
        for file in self.files:
            if file.entity == entity:
                return file
        there = ", ".join(file.entity for file in self.files)
        raise Misconfigured(f"there is no policy for {entity!r}; there are policies for {there}")

    def allowed(self, entity: str, column: str) -> tuple[str | int, ...]:
        """The values that a rule allows for a column; none where no rule names any."""
        for rule in self.of(entity).rules:
            if rule.column == column and rule.one_of is not None:
                return tuple(rule.one_of)
        return ()

    def flow(self, name: str) -> FlowPolicy:
        """What is decided about a flow. Raises ``Misconfigured`` where no entity is subscribed to."""
        files = tuple(file for file in self.files if name in file.flows)
        if not files:
            raise Misconfigured(
                f"no policy has a section flows.{name}, so there is no such flow or nothing for it to do; "
                f"there are {', '.join(dict.fromkeys(flow for file in self.files for flow in file.flows))}"
            )
        return FlowPolicy(name, files)

    def references(self, flow: str) -> tuple[Reference, ...]:
        """Of the entities that the flow subscribes to."""
        return tuple(
            Reference(file.entity, rule.references, timedelta(seconds=rule.grace_s))
            for file in self.files
            if flow in file.flows
            for rule in file.rules
            if rule.references is not None and rule.grace_s is not None
        )


def _conflict_policy(file: PolicyFile) -> ConflictPolicy:
    return ConflictPolicy(
        fields=tuple(
            FieldPolicy(
                name,
                tuple(field.columns or [name]),
                tuple(field.writers),
                field.strategy or Strategy(file.strategy),
                field.rule,
            )
            for name, field in file.fields.items()
        ),
        concurrency_window=timedelta(seconds=file.concurrency_window_s or 0),
    )


def _sources(file: PolicyFile, flow: str) -> dict[str, Source]:
    """By field of the document."""
    return {
        name: Source(
            field.from_,
            ColumnType.parse(file.columns[field.from_].type),
            file.columns[field.from_].required,
            field.transform,
            None if field.python is None else function_of(field.python),
        )
        for name, field in file.flows[flow].fields.items()
    }


def _rules_of_rows(file: PolicyFile, flow: FlowSection) -> Iterator[Rule]:
    for rule in file.rules:
        if rule.python is not None:
            yield rules.by_function(function_of(rule.python))
        elif rule.references is None:
            yield _rule(rule, partial(_value, file, flow))


def _rules_of_resolutions(file: PolicyFile) -> Iterator[tuple[str, Iterable[Rule]]]:
    """Of the rules of a row those that look at one field alone: an answer speaks of no other."""
    for name, field in file.fields.items():
        columns = tuple(field.columns or [name])
        within = [rule for rule in file.rules if rule.columns and set(rule.columns) <= set(columns)]
        value = partial(_resolved_value, file, columns)
        yield f"{file.entity}:{RESOLUTION}:{name}", [_rule(rule, value) for rule in within]


def _rule(rule: RuleSection, value_of: Callable[[str], Value]) -> Rule:
    if rule.required is not None:
        return rules.required(value_of(rule.required))
    assert rule.column is not None  # noqa: S101 - the form of the file says so
    value = value_of(rule.column)
    if rule.one_of is not None:
        return rules.one_of(value, rule.one_of)
    if rule.pattern is not None:
        return rules.pattern(value, rule.pattern)
    if rule.at_most is not None:
        return rules.at_most(value, value_of(rule.at_most))
    return rules.within(value, rule.min, rule.max)


def _value(file: PolicyFile, flow: FlowSection, column: str) -> Value:
    is_text = ColumnType.parse(file.columns[column].type).is_text
    if column == file.source.slot:
        return Value(column, (), is_text, is_e4=False)
    for name, field in flow.fields.items():
        if field.from_ == column and field.python is None:
            return Value(column, (name,), is_text, is_e4=field.transform == "e4")
    return Value(column, (column,), is_text, is_e4=False)


def _resolved_value(file: PolicyFile, columns: Collection[str], column: str) -> Value:
    """Where a resolution of a field of these columns says it."""
    is_text = ColumnType.parse(file.columns[column].type).is_text
    path = ("value",) if len(columns) == 1 else ("value", column)
    return Value(column, path, is_text, is_e4=False)
