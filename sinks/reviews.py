"""What a person is asked about concurrent values of a field, and how that stands: ``sync.reviews``."""

from typing import Any

from sinks.postgres import PostgresSink, PostgresWriter
from syncline.circuit import Circuit
from syncline.model.decision import Review


def reviews(flow: str, dsn: str, circuit: Circuit) -> PostgresSink[Review]:
    """A sink for reviews of the flow. Each write of a document tells all of its reviews anew."""

    def row(review: Review) -> dict[str, Any]:
        return {
            "flow": flow,
            "entity_type": review.entity.type,
            "entity_id": review.entity.id,
            "field": review.field,
            "state": "open" if review.is_open else "closed",
            "candidates": {writer: candidate._asdict() for writer, candidate in review.candidates.items()},
            "standing": review.standing,
            "document_version": review.document_version,
        }

    return PostgresSink(PostgresWriter(dsn, "reviews", f"syncline-{flow}-reviews"), row, circuit)
