"""Whether a flow would take a person's answer: asked of the flow's own steps before the answer is sent."""

from collections.abc import Iterator

import orjson

from operators.decode import Decode, Reentries
from operators.transform import Transform
from operators.validate import Validate
from syncline.clock import system_clock_us
from syncline.model.change import Change
from syncline.model.errors import NotPossible, SynclineError
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.model.part import Part
from syncline.monitor.conflict_choice import Sending
from syncline.policies.policies import FlowPolicy
from syncline.policies.reentry import reentry_topic


def check_answer(name: str, sending: Sending, flow: FlowPolicy, topic_prefix: str) -> None:
    """Raises ``NotPossible``, with what is wrong and what would be right.

    That the copy's store takes it too is seen only there.
    """
    topic, now_us = reentry_topic(topic_prefix), system_clock_us()
    key, value = sending.document_id.encode(), orjson.dumps(sending.payload)
    message = Message(topic, 0, 0, key, value, (), now_us, now_us)
    for fault in _faults(message, flow, Decode(flow.topics(topic_prefix), Reentries(topic, flow.name))):
        raise NotPossible(f"{name}: {flow.name} would not take this answer: {fault}")


def _faults(message: Message, flow: FlowPolicy, decode: Decode) -> Iterator[SynclineError]:
    validate = Validate(flow.rules)
    for decoded in decode([message]):
        outcomes = Transform(flow)([decoded]) if isinstance(decoded, Change) else [decoded]
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                yield outcome.error
            elif isinstance(outcome, Part) and (error := validate(outcome)) is not None:
                yield error
