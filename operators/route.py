"""Step 3, second half: keep what the flow has subscribed to."""

from collections.abc import Iterable

import bytewax.operators as op
from bytewax.dataflow import Stream, operator
from prometheus_client import Counter

from syncline.model.change import Change, Op, Watermark
from syncline.policies.subscriptions import Subscription

FILTERED_TOTAL = Counter("syncline_filtered_total", "Changes that a flow does not want.", ["flow", "entity"])


class Route:
    """Drops changes of entities and operations that the flow does not want; watermarks always pass.

    A row that does not, or no longer, meet the conditions becomes ``filtered``: what the copy has of it goes.
    """

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._wants_all = {entity for entity, wish in subscription.wishes.items() if wish.is_for_everything}

    def __call__(self, items: Iterable[Change | Watermark]) -> list[Change | Watermark]:
        wants_all = self._wants_all
        routed = [
            item if isinstance(item, Watermark) or item.entity.type in wants_all else self._wanted(item)
            for item in items
        ]
        return [item for item in routed if item is not None]

    def _wanted(self, change: Change) -> Change | None:
        entity = change.entity.type
        wish = self._subscription.wishes.get(entity)
        if wish is None or change.op not in wish.operations:
            return self._count(entity, None)
        if change.op == Op.UPSERT and not wish.is_for(change.fields):
            return self._count(entity, change._replace(op=Op.FILTERED.value))
        return change

    def _count(self, entity: str, instead: Change | None) -> Change | None:
        FILTERED_TOTAL.labels(self._subscription.flow, entity).inc()
        return instead


@operator
def route(
    step_id: str, up: Stream[list[Change | Watermark]], subscription: Subscription
) -> Stream[list[Change | Watermark]]:
    """Keep what is wanted, in order."""
    return op.map("batch", up, Route(subscription))
