"""What is inside a re-entered message."""

import orjson
from pydantic import ValidationError

from syncline.model.change import Op
from syncline.model.errors import Undecodable
from syncline.model.message import Message
from syncline.model.reentry import REENTRY, Replay, Resolution, Retry


def unwrap(message: Message) -> Replay | Retry | Resolution:
    """Raises ``Undecodable``, which names every member at fault."""
    if message.value is None:
        raise Undecodable("value: there is none; what is sent back to a flow is an object")
    try:
        return REENTRY.validate_json(message.value)
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc'])) or 'value'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise Undecodable(f"this is nothing that is sent back to a flow: {'; '.join(faults)}") from error


def change_payload(resolution: Resolution) -> bytes:
    """A resolution as its change would be published if it had a topic of its own."""
    fields = resolution.model_dump(include={"field", "value", "covers", "at", "by", "why"})
    entity = f"{resolution.entity_type}:{resolution.document_id}"
    try:
        return orjson.dumps(
            {"entity": entity, "op": Op.UPSERT, "version": resolution.version, "fields": fields}
        )
    except orjson.JSONEncodeError as error:
        raise Undecodable(f"value: this cannot be written as JSON again: {error}") from error
