"""What a policy file may say: one TOML file for one entity.

The models check the form of a file; what must fit together is checked by ``coherence.py``.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from syncline.policies.columns import TRANSFORMS, ColumnType, function_of
from syncline.policies.strategies import MergeRule, Strategy

Criticality = Literal["critical", "normal"]
StrategyName = Annotated[Strategy, Field(strict=False)]
RuleName = Annotated[MergeRule, Field(strict=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _without_colon(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise ValueError(f"{value!r} must be lower case letters, digits and _")
    return value


def _column_type(value: str) -> str:
    ColumnType.parse(value)
    return value


def _function(value: str) -> str:
    function_of(value)
    return value


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from error
    return value


def _transform(value: str) -> str:
    if value not in TRANSFORMS:
        raise ValueError(f"{value!r} is no transform; there are {', '.join(TRANSFORMS)}")
    return value


Name = Annotated[str, AfterValidator(_without_colon)]
Function = Annotated[str, AfterValidator(_function)]


class SourceSection(_Section):
    """Where the rows come from. ``{writer}`` in the table and ``{prefix}`` in the topic are filled in."""

    table: str
    document: str
    """The column whose value names the document, and is the key of the messages."""
    slot: str | None = None
    """The column that tells apart entities of which a document has several."""
    topic: str | None = None


class ColumnSection(_Section):
    """``type`` as PostgreSQL names it; ``required`` columns are never null."""

    type: Annotated[str, AfterValidator(_column_type)]
    required: bool = False


class FieldSection(_Section):
    """Where a document's field comes from."""

    from_: str = Field(alias="from")
    transform: Annotated[str, AfterValidator(_transform)] = "as_is"
    python: Function | None = None


class Condition(_Section):
    """What a row must be for a flow to want it."""

    column: str
    one_of: list[str | int | bool] | None = None
    none_of: list[str | int | bool] | None = None
    present: bool | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Condition":
        given = [name for name in ("one_of", "none_of", "present") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("a condition says one of one_of, none_of, present")
        return self


class FlowSection(_Section):
    operations: list[Literal["upsert", "delete"]] = ["upsert", "delete"]
    where: list[Condition] = []
    fields: dict[
        Name,
        Annotated[FieldSection, BeforeValidator(lambda value: _of_text(value, "from"))],
    ] = {}


class RuleSection(_Section):
    """One rule. The kind is told by the keys: ``required``; ``column`` with ``min`` and ``max``, ``one_of``,
    ``pattern`` or ``at_most``; ``references`` with ``grace_s``; ``python``."""

    required: str | None = None
    column: str | None = None
    min: float | None = None
    max: float | None = None
    one_of: list[str | int] | None = None
    pattern: Annotated[str, AfterValidator(_regular_expression)] | None = None
    at_most: str | None = None
    references: str | None = None
    grace_s: Annotated[int, Field(ge=0)] | None = None
    python: Function | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "RuleSection":
        about = [name for name in ("required", "column", "references", "python") if self._has(name)]
        if len(about) != 1:
            raise ValueError("a rule begins with one of required, column, references, python")
        says = [name for name in ("one_of", "pattern", "at_most") if self._has(name)] + (
            ["min, max"] if self._has("min") or self._has("max") else []
        )
        if self._has("column") and len(says) != 1:
            raise ValueError("of a column a rule says one of min and max, one_of, pattern, at_most")
        if not self._has("column") and says:
            raise ValueError(f"{says[0]}: this is said of a column; name it by column = ...")
        if self._has("references") != self._has("grace_s"):
            raise ValueError("references and grace_s are given together")
        return self

    @property
    def columns(self) -> list[str]:
        """All that it looks at; none where it is about a whole row, or another entity."""
        return [column for column in (self.required, self.column, self.at_most) if column is not None]

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None


class FieldOwnership(_Section):
    """Of an entity with several writers: who may write a field, its owner first, and how edits are merged."""

    writers: Annotated[list[str], Field(min_length=1)]
    columns: list[str] | None = None
    strategy: StrategyName | None = None
    rule: RuleName | None = None

    @model_validator(mode="after")
    def _names_a_rule_where_it_merges(self) -> "FieldOwnership":
        if (self.strategy is Strategy.MERGE) != (self.rule is not None):
            raise ValueError('strategy = "merge" and rule = "..." are given together')
        return self


class PolicyFile(_Section):
    entity: Name
    owner: Name
    """The service that owns the data, and the schema of its tables."""
    criticality: Criticality
    strategy: Literal["last_write_wins"]
    """Of fields that say nothing else."""
    notify: list[str]
    """Who is told of what goes wrong."""
    personal: bool = False
    """It holds data of persons: messages about it name ids and never a value."""
    writers: list[Name] = []
    """Where several services write the entity: highest rank first."""
    concurrency_window_s: Annotated[float, Field(gt=0, strict=False)] | None = None
    source: SourceSection
    columns: dict[Name, Annotated[ColumnSection, BeforeValidator(lambda value: _of_text(value, "type"))]]
    flows: dict[str, FlowSection] = {}
    rules: list[RuleSection] = []
    fields: dict[Name, FieldOwnership] = {}

    @model_validator(mode="after")
    def _has_a_window_where_it_has_writers(self) -> "PolicyFile":
        if bool(self.writers) != (self.concurrency_window_s is not None):
            raise ValueError("writers and concurrency_window_s are given together")
        return self


def _of_text(value: object, key: str) -> object:
    """``name = "text"`` is short for ``name = { type = "text" }``."""
    return {key: value} if isinstance(value, str) else value
