"""The shapes of the owners' rows, as far as Syncline reads them.

Columns that a model does not name are ignored: an owner may add columns at any time.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

INT32_MAX = 2**31 - 1


def _unbounded_is_none(value: Any) -> Any:
    return None if value in {"infinity", "-infinity"} else value


Sku = Annotated[str, Field(min_length=1, max_length=128)]
"""Elasticsearch bounds a document's id to 512 bytes: 128 characters of UTF-8."""
Amount = Annotated[Decimal, Field(max_digits=12, decimal_places=4, allow_inf_nan=False)]
"""``numeric(12,4)``."""
Moment = Annotated[datetime | None, BeforeValidator(_unbounded_is_none)]
"""``timestamptz``; an open end (``infinity``) is none."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Product(_Row):
    """``catalog.products``."""

    sku: Sku
    name: str | None = None
    description: str | None = None
    brand: str | None = None
    category: str | None = None
    attributes: dict[str, Any] | None = None
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
