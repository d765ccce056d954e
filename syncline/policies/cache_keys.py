"""Which cached entries a change makes stale: by their names, and listings by the tags that they are found
under."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from syncline.model.decision import Applied


class Stale(NamedTuple):
    entries: set[str]
    """What is read from the store by its id."""
    listings: set[str]
    """What is found by a search."""


@dataclass(frozen=True)
class CacheRules:
    """Names as templates: of ``{id}``, the document's; of ``{slot}``, a part's; of ``{value}``, a field's."""

    document: str
    parts: Mapping[str, str] = field(default_factory=dict)
    """By entity type, where a part of the document has an entry of its own."""
    listed_by: Mapping[str, str] = field(default_factory=dict)
    """By field that listings go by: what the document says there now, and what it said before."""
    listings: Sequence[str] = ()
    """Those that any change may alter."""

    def stale(self, documents: Iterable[Applied]) -> Stale:
        entries: set[str] = set()
        listings: set[str] = set()
        for applied in documents:
            document_id = applied.document_id
            entries.add(self.document.format(id=document_id))
            listings.update(self.listings)
            for name, template in self.listed_by.items():
                listings.update(template.format(value=value) for value in _values(applied, name))
            for part, _, _, _ in applied.verdicts if self.parts else ():
                template_of_part = self.parts.get(part.change.entity.type)
                if template_of_part is not None:
                    entries.add(template_of_part.format(id=document_id, slot=part.slot))
        return Stale(entries, listings)


def _values(applied: Applied, name: str) -> set[str]:
    """A change that the copy is already past may have been in it, and in listings, before the flow was
    killed."""
    values = set(applied.listed.get(name, ()))
    for part, _, _, replaced in applied.verdicts:
        for body in (part.body, replaced):
            if body is not None and (value := body.get(name)) is not None:
                values.add(value)
    return values


PRODUCT_RULES = CacheRules(
    document="product:{id}",
    parts={"price": "price:{id}:{slot}"},
    listed_by={"category": "category:{value}"},
    listings=("search:products",),
)
"""The product's page, each price by itself, listings of the product's category, old and new, and results of
searches."""
CUSTOMER_RULES = CacheRules(document="customer:{id}")
"""The customer's profile."""
