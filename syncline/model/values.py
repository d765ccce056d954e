"""The values of the owners' columns, as the outbox's trigger and PostgreSQL write them in JSON."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

T = TypeVar("T")
TypeForm = Any
"""What pydantic reads as a type."""
E4_DECIMALS = 4
E4_WHOLE_DIGITS = 14
"""So many before the point fit in 64 bits with the decimals."""
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
INT64_BOUND = 2.0**63


def _none_where_unbounded(value: object) -> object:
    return None if isinstance(value, str) and value in {"infinity", "-infinity"} else value


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("in UTC this moment lies outside the years 1 to 9999") from error


def _refuse_numbers_beyond_64_bits(value: T) -> T:
    """JSON readers round such integers to the nearest double without a word."""
    if isinstance(value, float):
        if abs(value) >= INT64_BOUND:
            raise ValueError(f"the number {value:.17g} does not fit in 64 bits; send it as a string")
    elif isinstance(value, dict):
        for item in value.values():
            _refuse_numbers_beyond_64_bits(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_numbers_beyond_64_bits(item)
    return value


Amount = Annotated[Decimal, Field(max_digits=12, decimal_places=4, allow_inf_nan=False)]
"""``numeric(12,4)``."""
Attributes = Annotated[dict[str, Any], AfterValidator(_refuse_numbers_beyond_64_bits)]
_Moment = Annotated[
    Annotated[AwareDatetime, AfterValidator(_in_utc)] | None, BeforeValidator(_none_where_unbounded)
]

# The two below are read from the text that PostgreSQL and the outbox's trigger write, several times as fast
# as by way of a Decimal and a datetime; whatever looks otherwise takes that way.


def amount_e4(digits: int, decimals: int) -> TypeForm:
    """The type of ``numeric(digits, decimals)``, at most four decimals, read as whole numbers of 1/10,000:
    12.90 is 129000."""
    whole_digits = digits - decimals
    factor: int = 10 ** (E4_DECIMALS - decimals)

    def in_e4(value: object, read: ValidatorFunctionWrapHandler) -> int:
        if type(value) is str and value.isascii():
            whole, _, fraction = value.partition(".")
            if (
                len(fraction) == decimals
                and len(whole) <= whole_digits
                and whole.isdigit()
                and fraction.isdigit()
            ):
                return int(whole + fraction) * factor
        amount: Decimal = read(value)
        return int(amount.scaleb(E4_DECIMALS))

    exact = Field(max_digits=digits, decimal_places=decimals, allow_inf_nan=False)
    return Annotated[Annotated[Decimal, exact], WrapValidator(in_e4)]


def _as_utc_text(value: object, read: ValidatorFunctionWrapHandler) -> str | None:
    if type(value) is str and len(value) == 27 and value[4:20:3] == "--T::." and value[26] == "Z":
        try:
            datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return value
    moment: datetime | None = read(value)
    return None if moment is None else moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


AmountE4 = amount_e4(12, 4)
UtcText = Annotated[_Moment, WrapValidator(_as_utc_text)]
"""``timestamptz`` as ISO 8601 in UTC, with microseconds and a ``Z``; an open end (``infinity``) is none."""
