"""What stood when a conflict over a whole entity came: no copy keeps it, so it is read from the log again."""

from typing import Any

from operators.decode import Decode, Reentries
from syncline.model.change import Change
from syncline.model.errors import NotPossible
from syncline.model.message import Message
from syncline.monitor.audited_conflicts import AuditedConflict
from syncline.monitor.logged_message import read_message
from syncline.policies.reading import load_policies
from syncline.policies.reentry import reentry_topic
from syncline.settings import Settings


def stored_content(conflict: AuditedConflict, settings: Settings) -> dict[str, Any]:
    """The columns. Raises ``NotPossible``, which says what to do instead, and errors of Kafka."""
    position = conflict.known.position
    if position is None:
        raise _gone(conflict, "the content of the side stored was not kept")
    message = read_message(settings.kafka_bootstrap_servers, position)
    content = None if message is None else _content(message, conflict, settings)
    if content is None:
        raise _gone(conflict, f"the log no longer has the content of the side stored, from {position}")
    return content


def _content(message: Message, conflict: AuditedConflict, settings: Settings) -> dict[str, Any] | None:
    """``None`` where another message stands there: a topic that was made anew begins at 0 again."""
    topics = load_policies(settings.policies_dir).flow(conflict.flow).topics(settings.topic_prefix)
    decode = Decode(topics, Reentries(reentry_topic(settings.topic_prefix), conflict.flow))
    said = (conflict.entity, conflict.known.version, conflict.known.content_hash)
    for change in decode([message]):
        if (
            isinstance(change, Change)
            and (str(change.entity), tuple(change.version), change.content_hash) == said
        ):
            return change.fields
    return None


def _gone(conflict: AuditedConflict, what: str) -> NotPossible:
    return NotPossible(
        f"{conflict.name}: {what}. Take the other one, with what is wrong in it set right: "
        "--take incoming --set field=value"
    )
