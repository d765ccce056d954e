"""Failures of Kafka, told by class, and the log of its client.

Source: Apache Kafka protocol guide, "Error Codes"; librdkafka, ``rd_kafka_resp_err_t``, whose local codes
begin with an underscore and have no other name.
"""

import logging

from confluent_kafka import KafkaError

from syncline.model.errors import (
    BadCredentials,
    Fenced,
    LogTruncated,
    MissingResource,
    SynclineError,
    Unavailable,
)

CLIENT_LOG = logging.getLogger("kafka")

MAX_RECORD_BYTES = 16_777_216
LARGEST_CARRIED_BYTES = (MAX_RECORD_BYTES - 64 * 1024) // 2
"""Of a message that is sent back to a flow: that carries its bytes in hexadecimal, and some more beside."""

WAY_OUT = (
    "remove the recovery folder, so that the flow reads the log from its beginning, then send again what is "
    "missing: docs/failures.md, 'Sending rows again'"
)
"""Of a flow whose place in the log is gone."""

_FENCED = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
)
_DENIED = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})  # noqa: SLF001
_GONE = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET})  # noqa: SLF001


def typed(error: KafkaError, doing: str) -> SynclineError:
    """The error of Syncline's tree that stands for Kafka's."""
    code, text = error.code(), f"{doing}: {error.str()}"
    if code in _FENCED:
        return Fenced(text)
    if code in _DENIED:
        return BadCredentials(text)
    if code in _MISSING:
        return MissingResource(f"{text}; run: syncline setup")
    if code in _GONE:
        return LogTruncated(f"{text}; the changes before the log's beginning are gone: {WAY_OUT}")
    # What is fatal to one client of Kafka is over with the next one.
    return Unavailable(text)
