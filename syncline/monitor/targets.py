"""Sending a message to an address: a chat, a mailbox, a webhook. Apprise knows how.

Apprise: https://github.com/caronc/apprise. Most addresses are secrets: a webhook's path lets anyone post.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
from pydantic import SecretStr

from syncline.model.errors import Misconfigured, Unavailable
from syncline.monitor.notification import Message

_PART = re.compile(r"[^\s/:@?&=,;#\"'<>()]{4,}")
"""Of an address or of a text: long enough to be a secret."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one recipient."""

    recipient: str
    number: int
    """Its place among the recipient's addresses, from 1: it has no other name that is not secret."""
    address: SecretStr

    def __str__(self) -> str:
        return f"{self.recipient}/{self.number}"

    def send(self, message: Message) -> None:
        """Raises ``Unavailable`` where it was not taken."""
        answer = self._client().notify(
            title=message.title,
            body=message.body,
            notify_type=NotifyType.WARNING,
            body_format=NotifyFormat.TEXT,
        )
        if not answer:
            said = "; ".join(entry.message for result in answer for entry in result.logs())
            raise Unavailable(f"{self} does not take a message: {self._masked(said) or answer.status.name}")

    def check(self) -> None:
        """Raises ``Misconfigured`` where nothing could be sent to such an address."""
        self._client()

    def _client(self) -> Apprise:
        client = Apprise(asset=AppriseAsset(app_id="Syncline", app_desc="Syncline"))
        if not client.add(self.address.get_secret_value()):
            raise Misconfigured(
                f"notify_targets: address {self.number} of {self.recipient!r} is none that Apprise knows, or "
                "incomplete"
            )
        return client

    def _masked(self, text: str) -> str:
        """Without anything that is part of the address."""
        address = self.address.get_secret_value()
        _, _, after_scheme = address.partition("://")
        secret = set(_PART.findall(after_scheme)) | set(_PART.findall(unquote(after_scheme)))
        for part in sorted(secret, key=len, reverse=True):
            text = text.replace(part, "****")
        return text


def targets(addresses: Mapping[str, Sequence[SecretStr]]) -> Iterator[Target]:
    """The targets of all recipients."""
    for recipient, own in addresses.items():
        for number, address in enumerate(own, start=1):
            yield Target(recipient, number, address)


def log_nothing_of_libraries() -> None:
    """What clients of other services log may hold addresses, on level DEBUG at the latest."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(logging.Filter("syncline"))
