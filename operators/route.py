"""Step 3, second half: keep what the flow has subscribed to."""

from collections.abc import Iterable

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from syncline.model.change import Change, Watermark
from syncline.policies.subscriptions import Subscription


@operator
def route(
    step_id: str, up: Stream[list[Change | Watermark]], subscription: Subscription
) -> Stream[list[Change | Watermark]]:
    """Drop changes of entities that the flow does not want; watermarks always pass."""
    entities = subscription.entities

    def wanted(items: Iterable[Change | Watermark]) -> list[Change | Watermark]:
        return [item for item in items if isinstance(item, Watermark) or item.entity.type in entities]

    return op.map("batch", up, wanted)
