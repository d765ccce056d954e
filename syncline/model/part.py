"""What one entity contributes to one document."""

from typing import Any, NamedTuple

from syncline.model.change import Change
from syncline.model.version import Version


class Part(NamedTuple):
    """A change in the shape that the document keeps."""

    document_id: str
    entity: str
    """The entity's key as text, such as ``price:EUR:SKU-1``."""
    slot: str
    """Where in its section of the document the part stands: the currency, the warehouse, or ``""``."""
    body: dict[str, Any] | None
    """The fields to keep; ``None`` where the entity was deleted."""
    change: Change
    routed_at_us: int
    """When its batch had been decoded and routed."""
    transformed_at_us: int
    """When all of its batch was transformed."""

    @property
    def version(self) -> Version:
        return self.change.version

    @property
    def rank(self) -> tuple[Version, str]:
        """The total order by which the last write wins: the content breaks the tie of equal versions."""
        return self.change.version, self.change.content_hash

    def to_plain(self) -> tuple[Any, ...]:
        """As plain values, for a snapshot."""
        return tuple(self._replace(change=self.change.to_plain()))  # type: ignore[arg-type]

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> "Part":
        part = cls(*plain)
        return part._replace(change=Change.from_plain(part.change))
