"""Types of source columns, named as PostgreSQL names them, and the transforms from a column to a field.

What a column's type refuses cannot be transformed at all; what breaks a rule of the business is another
matter (``rules.py``).
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import Annotated, Any, NotRequired, Required
from uuid import UUID

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)
from typing_extensions import TypedDict  # pydantic takes the standard one from Python 3.12 on

from syncline.model.values import (
    INT32_MAX,
    INT64_MAX,
    Attributes,
    TypeForm,
    UtcText,
    amount_e4,
)

Body = dict[str, Any]
Mapper = Callable[[Mapping[str, Any]], Body]
"""A row's columns to the fields that a document keeps of them. Raises ``pydantic.ValidationError``."""

PLAIN_TYPES = ("text", "integer", "bigint", "boolean", "timestamptz", "uuid", "jsonb", "text[]")
TYPES = (*PLAIN_TYPES, "char(n)", "numeric(digits,decimals)")
TRANSFORMS: Mapping[str, tuple[str, ...]] = {
    "as_is": TYPES,
    "e4": ("numeric(digits,decimals)",),
    "utc": ("timestamptz",),
    "lower": ("text", "char(n)"),
    "trim": ("text", "char(n)"),
}
"""By name: the types of columns that it takes. ``e4`` gives whole numbers of 1/10,000, ``utc`` ISO 8601 in
UTC with microseconds."""

_CHAR = re.compile(r"char\((\d{1,4})\)")
_NUMERIC = re.compile(r"numeric\((\d{1,4}),\s*(\d{1,4})\)")


@dataclass(frozen=True, slots=True)
class ColumnType:
    """``parameters`` are those in parentheses."""

    name: str
    parameters: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "ColumnType":
        """Raises ``ValueError``, which says what would be right."""
        if text in PLAIN_TYPES:
            return cls(text)
        for name, pattern in (("char(n)", _CHAR), ("numeric(digits,decimals)", _NUMERIC)):
            if match := pattern.fullmatch(text):
                return cls(name, tuple(map(int, match.groups())))
        raise ValueError(f"{text!r} is no type that Syncline reads; there are {', '.join(TYPES)}")

    def __str__(self) -> str:
        """As a policy file says it."""
        name, parenthesis, _ = self.name.partition("(")
        return f"{name}({','.join(map(str, self.parameters))})" if parenthesis else name

    @property
    def is_number(self) -> bool:
        return self.name in {"integer", "bigint", "numeric(digits,decimals)"}

    @property
    def is_text(self) -> bool:
        return self.name in {"text", "char(n)"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document's field comes from. ``function`` is Python for what no transform can do."""

    column: str
    type: ColumnType
    is_required: bool
    transform: str = "as_is"
    function: Callable[[Any], Any] | None = None


def function_of(reference: str) -> Callable[[Any], Any]:
    """The function behind ``module:name``. Raises ``ValueError``."""
    module, _, name = reference.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{reference!r} cannot be imported: {error}; write module:function") from error
    if not callable(function):
        raise ValueError(f"{reference!r} is no function")  # noqa: TRY004 - what pydantic expects
    found: Callable[[Any], Any] = function
    return found


def compile_mapper(sources: Mapping[str, Source], fields: Collection[str]) -> Mapper:
    """Give all these fields: what has no source, or is not in the row, is ``None``."""
    # The columns stand under the names of the fields at once: to rename them afterwards would cost as much.
    row = TypedDict(  # type: ignore[misc] # the names are known when the policies are read
        "Row",
        {
            field: (Required if source.is_required else NotRequired)[
                Annotated[_value_type(source), Field(validation_alias=source.column)]
            ]
            for field, source in sources.items()
        },
    )
    validate = TypeAdapter(with_config(ConfigDict(extra="ignore"))(row)).validator.validate_python
    width, nothing = len(fields), dict.fromkeys(fields)

    def mapper(fields: Mapping[str, Any]) -> Body:
        body: Body = validate(fields)
        return body if len(body) == width else {**nothing, **body}

    return mapper


def _value_type(source: Source) -> TypeForm:
    value: Any = _transformed(source.type, source.transform)
    if source.function is not None:
        value = Annotated[value, AfterValidator(source.function)]
    return value if source.is_required else value | None


def _transformed(column: ColumnType, transform: str) -> TypeForm:
    if transform == "e4":
        return amount_e4(*column.parameters)
    if transform == "utc":
        return UtcText
    value = _TYPES[column.name](*column.parameters)
    if transform == "lower":
        return Annotated[value, AfterValidator(str.lower)]
    if transform == "trim":
        return Annotated[value, AfterValidator(str.strip)]
    return value


def _as_written(value: object, read: ValidatorFunctionWrapHandler) -> object:
    read(value)
    return value


def _uuid_text(value: object) -> str:
    return str(value)


def _whole(limit: int) -> TypeForm:
    return Annotated[int, Field(strict=True, ge=-limit - 1, le=limit)]


def _numeric(digits: int, decimals: int) -> TypeForm:
    exact = Field(max_digits=digits, decimal_places=decimals, allow_inf_nan=False)
    return Annotated[Annotated[Decimal, exact], WrapValidator(_as_written)]


_TYPES: Mapping[str, Callable[..., TypeForm]] = {
    "text": lambda: str,
    "char(n)": lambda length: Annotated[str, Field(min_length=length, max_length=length)],
    "integer": lambda: _whole(INT32_MAX),
    "bigint": lambda: _whole(INT64_MAX),
    "numeric(digits,decimals)": _numeric,
    "boolean": lambda: Annotated[bool, Field(strict=True)],
    "timestamptz": lambda: Annotated[UtcText, WrapValidator(_as_written)],
    "uuid": lambda: Annotated[UUID, AfterValidator(_uuid_text)],
    "jsonb": lambda: Attributes,
    "text[]": lambda: list[str | None],
}
