"""The shapes of the rows that several services write of one customer, and of a person's answer to a review.

Columns that a shape does not name are ignored: a writer may add columns at any time.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Required

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic takes the standard one from Python 3.12 on

from syncline.model.values import Attributes, UtcText

_EPOCH = datetime.fromtimestamp(0, UTC)


def _as_us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


MomentUs = Annotated[AwareDatetime, AfterValidator(_as_us)]
"""``timestamptz`` in microseconds since the epoch; an open end is refused."""
RowVersion = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Uuid = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
"""As PostgreSQL writes it."""

_ROW = ConfigDict(extra="ignore")


@with_config(_ROW)
class FieldVersion(TypedDict):
    """When a field last changed: the row's version then, and the time."""

    version: RowVersion
    at: MomentUs


@with_config(_ROW)
class CustomerColumns(TypedDict, total=False):
    """What writers say of a customer."""

    email: str | None
    phone: str | None
    full_name: str | None
    address: Attributes | None
    marketing_consent: Annotated[bool, Field(strict=True)] | None
    consent_at: UtcText
    notes: str | None


@with_config(_ROW)
class Customer(CustomerColumns, total=False):
    """``customers.storefront``, ``customers.crm`` and ``customers.support``."""

    id: Required[Uuid]
    field_versions: Required[dict[str, FieldVersion]]
    """By field, of those that the writer ever set."""
    based_on: dict[str, dict[str, RowVersion]] | None
    """By field and other writer: the version that the writer had seen when it made its value."""


@with_config(_ROW)
class Resolution(TypedDict):
    """A person's answer to a review: the value of a field, and by writer the version of it that they saw."""

    field: str
    value: Any
    covers: dict[str, RowVersion]
    at: MomentUs
    by: Annotated[str, Field(min_length=1)]
    why: str
