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
        self._wishes = {
            entity: None if wish.is_for_everything else wish for entity, wish in subscription.wishes.items()
        }

    def __call__(self, items: Iterable[Change | Watermark]) -> list[Change | Watermark]:
        routed: list[Change | Watermark] = []
        for item in items:
            if isinstance(item, Watermark):
                routed.append(item)
            elif (change := self._wanted(item)) is not None:
                routed.append(change)
        return routed

    def _wanted(self, change: Change) -> Change | None:
        entity = change.entity.type
        try:
            wish = self._wishes[entity]
        except KeyError:
            return self._count(entity, None)
        if wish is None:
            return change
        if change.op not in wish.operations:
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
