"""The steps that a change takes, and the waits between them, in order.

The two waits are no work of ours but time that the change spent: ``log`` in Kafka until the flow fetched
it, ``window`` in the apply step until its batch was full or old enough.
"""

from typing import NamedTuple


class Step(NamedTuple):
    name: str
    what: str
    budget_ms: int | None
    """The business's budget at the 95th percentile; waits have none of their own."""


STEPS: tuple[Step, ...] = (
    Step("detect", "detect a change", 50),
    Step("publish", "publish it", 20),
    Step("log", "wait in the log", None),
    Step("route", "route and filter", 30),
    Step("transform", "transform", 100),
    Step("window", "wait for the batch", None),
    Step("resolve", "detect and resolve conflicts", 50),
    Step("validate", "validate", 80),
    Step("deliver", "update the local store", 200),
    Step("invalidate", "invalidate the cache", 30),
    Step("confirm", "confirm", 15),
)
END_TO_END = Step("end_to_end", "commit to acknowledged write", 500)
