"""The shapes of the owners' rows, as far as Syncline reads them.

Columns that a shape does not name are ignored: an owner may add columns at any time.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Required, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)
from typing_extensions import TypedDict  # pydantic takes the standard one from Python 3.12 on

T = TypeVar("T")
INT32_MAX = 2**31 - 1
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


SKU_MAX_LENGTH = 128
Sku = Annotated[str, Field(min_length=1, max_length=SKU_MAX_LENGTH)]
"""Elasticsearch bounds a document's id to 512 bytes: 128 characters of UTF-8."""
Amount = Annotated[Decimal, Field(max_digits=12, decimal_places=4, allow_inf_nan=False)]
"""``numeric(12,4)``."""
Attributes = Annotated[dict[str, Any], AfterValidator(_refuse_numbers_beyond_64_bits)]
_Moment = Annotated[
    Annotated[AwareDatetime, AfterValidator(_in_utc)] | None, BeforeValidator(_none_where_unbounded)
]

# The two below are read from the text that PostgreSQL and the outbox's trigger write, several times as fast
# as by way of a Decimal and a datetime; whatever looks otherwise takes that way.


def _in_e4(value: object, read: ValidatorFunctionWrapHandler) -> int:
    if type(value) is str and value.isascii():
        whole, _, decimals = value.partition(".")
        if len(decimals) == 4 and len(whole) <= 8 and whole.isdigit() and decimals.isdigit():
            return int(whole + decimals)
    amount: Decimal = read(value)
    return int(amount.scaleb(4))


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


AmountE4 = Annotated[Amount, WrapValidator(_in_e4)]
"""``numeric(12,4)`` in whole numbers of 1/10,000: 12.90 is 129000."""
UtcText = Annotated[_Moment, WrapValidator(_as_utc_text)]
"""``timestamptz`` as ISO 8601 in UTC, with microseconds and a ``Z``; an open end (``infinity``) is none."""

_ROW = ConfigDict(extra="ignore")


@with_config(_ROW)
class Product(TypedDict, total=False):
    """``catalog.products``."""

    sku: Required[Sku]
    name: str | None
    description: str | None
    brand: str | None
    category: str | None
    attributes: Attributes | None
    tags: list[str | None] | None
    status: str | None


@with_config(_ROW)
class Price(TypedDict, total=False):
    """``pricing.prices``."""

    sku: Required[Sku]
    currency: Required[Annotated[str, Field(min_length=3, max_length=3)]]
    list_amount: AmountE4 | None
    sale_amount: AmountE4 | None
    valid_from: UtcText
    valid_to: UtcText


@with_config(_ROW)
class Stock(TypedDict):
    """``warehouse.stock``."""

    warehouse_id: Annotated[str, Field(min_length=1)]
    sku: Sku
    on_hand: Annotated[int, Field(strict=True, ge=-INT32_MAX - 1, le=INT32_MAX)]
    reserved: Annotated[int, Field(strict=True, ge=-INT32_MAX - 1, le=INT32_MAX)]
