"""What the search copy hides for longer than its policy allows: prices and stock whose product never came.

The grace time begins when the copy first had the entity. Not with its commit: where the flow was away for
hours, the product may be the next in the log. And not with the last change: stock that changes every minute
would never be overdue.

A product that was deleted, or that the flow does not want, is on record in the document: that explains why
it is hidden.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from syncline.model.change import EntityKey
from syncline.model.document import first_synced_at_us
from syncline.monitor.search_comparison import entity_of
from syncline.monitor.search_copy import SearchCopy
from syncline.monitor.search_sources import SearchSources
from syncline.policies.policies import FlowPolicy, Policies, Reference
from syncline.policies.reading import load_policies
from syncline.settings import Settings
from syncline.stopping import Stop

FLOW = "catalog_search"


@dataclass(frozen=True, slots=True)
class OverdueReference:
    """Times are in UTC."""

    entity: EntityKey
    referenced: EntityKey
    """What never came."""
    since: datetime
    """When the copy first had the entity."""
    overdue_since: datetime


def overdue_in(
    document_id: str, document: Mapping[str, Any], references: Sequence[Reference], now: datetime
) -> list[OverdueReference]:
    """What is overdue of a document that is hidden."""
    records = document["_sync"]["entities"]
    on_record = {name.partition(":")[0] for name in records}
    missing = [reference for reference in references if reference.referenced not in on_record]
    if not missing:
        return []
    slots: Mapping[str, Mapping[str, Any]] = {
        "price": document["prices"],
        "stock": document["stock"]["by_warehouse"],
    }
    overdue = []
    for reference in missing:
        # What the document holds, not what is on record: of a deleted price only the record is left.
        for slot in slots.get(reference.entity, ()):
            name = entity_of(reference.entity, slot, document_id)
            since = datetime.fromtimestamp(first_synced_at_us(records[name]) / 1e6, UTC)
            if (overdue_since := since + reference.grace) <= now:
                entity = EntityKey(*name.split(":", 1))
                referenced = EntityKey(reference.referenced, document_id)
                overdue.append(OverdueReference(entity, referenced, since, overdue_since))
    return overdue


class OverdueReferences:
    """Of the whole search copy."""

    def __init__(self, url: str, alias: str, references: Sequence[Reference]) -> None:
        self._url = url
        self._alias = alias
        self._references = references

    @classmethod
    def of(cls, settings: Settings, policies: Policies) -> "OverdueReferences":
        """By the policies of the flow."""
        url = settings.elasticsearch_url.get_secret_value()
        return cls(url, settings.search_alias, policies.references(FLOW))

    def read(self, now: datetime, stop: Stop | None = None) -> Iterator[list[OverdueReference]]:
        """All that is overdue, by pages of the index, which is not asked where no policy refers to anything.

        Raises ``Unavailable`` or a ``FatalError`` where it does not answer.
        """
        if not self._references:
            return
        with (
            closing(SearchCopy(self._url, self._alias, stop)) as copy,
            closing(copy.without_product()) as pages,
        ):
            for page in pages:
                yield [
                    overdue
                    for sku, document_id, document in page
                    if sku == document_id  # else it is out of place, and no document of this flow
                    for overdue in overdue_in(document_id, document, self._references, now)
                ]


class Found(NamedTuple):
    overdue: OverdueReference
    is_in_source: bool
    """Whether its owner has what never came: then that change is missing, or waits somewhere."""


def find_overdue(settings: Settings, now: datetime) -> Iterator[Found]:
    """All that is overdue, beside what the sources say now."""
    policies = load_policies(settings.policies_dir)
    referenced = {reference.referenced for reference in policies.references(FLOW)}
    policy = FlowPolicy(FLOW, tuple(file for file in policies.files if file.entity in referenced))
    with closing(SearchSources(settings.outbox_dsns(policy.owners), policy)) as sources:
        for page in OverdueReferences.of(settings, policies).read(now):
            there = sources.some(list({each.referenced.id for each in page}))
            for each in page:
                yield Found(each, str(each.referenced) in there.get(each.referenced.id, {}))
