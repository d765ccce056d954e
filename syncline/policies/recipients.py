"""Who is told of what waits for a person."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from syncline.policies.ownership import EntityPolicy


@dataclass(frozen=True, slots=True)
class Interest:
    """What one recipient is told of: entities of these types, and what cannot be decoded of these topics."""

    entities: frozenset[str]
    topics: frozenset[str]
    everything: bool
    """Also what belongs to no entity that Syncline knows."""


def interests(
    recipients: Mapping[str, Collection[str]], topics: Mapping[str, EntityPolicy]
) -> dict[str, Interest]:
    """By recipient, from the recipients of each entity type and the policies of all topics.

    What cannot be decoded is for the producer of its topic to mend, who is told in the owner's place. Who is
    named for every entity type is told of what belongs to none as well.
    """
    by_topic = {
        topic: (frozenset(recipients.get(policy.type, ())) - {policy.owner}) | {policy.producer}
        for topic, policy in topics.items()
    }
    named = frozenset().union(*recipients.values(), *by_topic.values())
    return {
        recipient: Interest(
            entities=_of(recipient, recipients.items()),
            topics=_of(recipient, by_topic.items()),
            everything=all(recipient in each for each in recipients.values()),
        )
        for recipient in sorted(named)
    }


def _of(recipient: str, named: Iterable[tuple[str, Collection[str]]]) -> frozenset[str]:
    return frozenset(subject for subject, recipients in named if recipient in recipients)
