"""One message of the log again, found by its position."""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from sources.kafka_reading import as_message
from syncline.clock import system_clock_us
from syncline.kafka import CLIENT_LOG, typed
from syncline.model.message import Message

TIMEOUT_SECONDS = 5.0


def read_message(bootstrap_servers: str, position: str) -> Message | None:
    """``None`` where the log does not have it, or no longer. Joins no group and commits nothing.

    Raises ``Unavailable`` and other errors of Kafka.
    """
    place, _, offset = position.rpartition("@")
    topic, _, partition = place.rpartition("/")
    wanted = TopicPartition(topic, int(partition), int(offset))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "syncline-logged-message",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_uncommitted",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
        },
        logger=CLIENT_LOG,
    )
    try:
        return _read(consumer, wanted)
    except KafkaException as error:
        raise typed(error.args[0], f"reading {position}") from error
    finally:
        consumer.close()


def _read(consumer: Consumer, wanted: TopicPartition) -> Message | None:
    topic = consumer.list_topics(timeout=TIMEOUT_SECONDS).topics.get(wanted.topic)
    if topic is None or wanted.partition not in topic.partitions:
        return None
    low, high = consumer.get_watermark_offsets(wanted, timeout=TIMEOUT_SECONDS)
    if not low <= wanted.offset < high:
        return None
    consumer.assign([wanted])
    message = consumer.poll(TIMEOUT_SECONDS)
    if message is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - it has no other name
    if (error := message.error()) is not None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            return None
        raise KafkaException(error)
    return as_message(message, system_clock_us()) if message.offset() == wanted.offset else None
