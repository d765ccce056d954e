"""What each flow's documents are made of: the fields that an entity may fill, and those that it must."""

from collections.abc import Mapping
from typing import NamedTuple


class DocumentPart(NamedTuple):
    fields: tuple[str, ...]
    needed: tuple[str, ...] = ()


DOCUMENTS: Mapping[str, Mapping[str, DocumentPart]] = {
    "catalog_search": {
        "product": DocumentPart(
            ("name", "description", "brand", "category", "attributes", "tags", "status"), needed=("name",)
        ),
        "price": DocumentPart(("list_e4", "sale_e4", "valid_from", "valid_to"), needed=("list_e4",)),
        "stock": DocumentPart(("on_hand", "reserved"), needed=("on_hand", "reserved")),
    },
    # Rows of its writers are kept whole, and merged by the policy of each field.
    "customer_profiles": {"customer": DocumentPart(())},
}
"""By flow and entity."""
