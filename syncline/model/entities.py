"""The shapes of the owners' rows, as far as Syncline reads them.

Columns that a model does not name are ignored: an owner may add columns at any time.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

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
Moment = Annotated[
    Annotated[AwareDatetime, AfterValidator(_in_utc)] | None, BeforeValidator(_none_where_unbounded)
]
"""``timestamptz``; an open end (``infinity``) is none."""

Attributes = Annotated[dict[str, Any], AfterValidator(_refuse_numbers_beyond_64_bits)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Product(_Row):
    """``catalog.products``."""

    sku: Sku
    name: str | None = None
    description: str | None = None
    brand: str | None = None
    category: str | None = None
    attributes: Attributes | None = None
    tags: list[str | None] | None = None
    status: str | None = None


class Price(_Row):
    """``pricing.prices``."""

    sku: Sku
    currency: Annotated[str, Field(min_length=3, max_length=3)]
    list_amount: Amount | None = None
    sale_amount: Amount | None = None
    valid_from: Moment = None
    valid_to: Moment = None


class Stock(_Row):
    """``warehouse.stock``."""

    warehouse_id: Annotated[str, Field(min_length=1)]
    sku: Sku
    on_hand: Annotated[int, Field(strict=True, ge=-INT32_MAX - 1, le=INT32_MAX)]
    reserved: Annotated[int, Field(strict=True, ge=-INT32_MAX - 1, le=INT32_MAX)]
