"""What each flow's documents are made of: the fields that an entity may fill, and those that it must."""

from collections.abc import Mapping
from typing import NamedTuple


class FieldKind(NamedTuple):
    """What a field takes: columns of these types, by these transforms. ``right`` says so to a person."""

    types: tuple[str, ...]
    transforms: tuple[str, ...]
    right: str


class DocumentPart(NamedTuple):
    fields: Mapping[str, FieldKind]
    """In the order of the document."""
    needed: tuple[str, ...] = ()


_TEXT = FieldKind(("text", "char(n)", "uuid"), ("as_is", "lower", "trim"), "text")
_TEXTS = FieldKind(("text[]",), ("as_is",), "text[]")
_OBJECT = FieldKind(("jsonb",), ("as_is",), "jsonb")
_AMOUNT = FieldKind(("numeric(digits,decimals)",), ("e4",), 'numeric by transform = "e4"')
_TIME = FieldKind(("timestamptz",), ("utc",), 'timestamptz by transform = "utc"')
COUNT = FieldKind(("integer",), ("as_is",), "integer")

DOCUMENTS: Mapping[str, Mapping[str, DocumentPart]] = {
    "catalog_search": {
        "product": DocumentPart(
            {
                "name": _TEXT,
                "description": _TEXT,
                "brand": _TEXT,
                "category": _TEXT,
                "attributes": _OBJECT,
                "tags": _TEXTS,
                "status": _TEXT,
            },
            needed=("name",),
        ),
        "price": DocumentPart(
            {"list_e4": _AMOUNT, "sale_e4": _AMOUNT, "valid_from": _TIME, "valid_to": _TIME},
            needed=("list_e4",),
        ),
        "stock": DocumentPart({"on_hand": COUNT, "reserved": COUNT}, needed=("on_hand", "reserved")),
    },
    # Rows of its writers are kept whole, and merged by the policy of each field.
    "customer_profiles": {"customer": DocumentPart({})},
}
"""By flow and entity."""
