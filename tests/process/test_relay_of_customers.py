"""The outbox of the customers, whose three writers each have a topic."""

from operators.decode import Decode
from syncline.model.change import Change, Watermark
from syncline.settings import Settings
from tests.customers import CUSTOMERS
from tests.log import Log
from tests.process.running import Running
from tests.services.database import WRITERS, Database
from tests.waiting import eventually

ID = "6f1c2f0e-9c1b-4d43-8f0e-0c5a0c8f3a11"


def test_each_writer_speaks_on_its_own_topic_and_all_partitions_hear_how_far_it_is(
    own: Settings, running: Running, database: Database, log: Log
) -> None:
    topics = CUSTOMERS.topics(own.topic_prefix)
    decode = Decode(topics)
    seen = {message.position for message in log.read(*topics)}
    for writer in WRITERS:
        database.write(
            writer, f"INSERT INTO customers.{writer} (id, email) VALUES ('{ID}', '{writer}@example.com')"
        )
    database.write("crm", "DELETE FROM customers.crm")

    def heard() -> list[Change | Watermark]:
        decoded = decode(message for message in log.read(*topics) if message.position not in seen)
        return [item for item in decoded if isinstance(item, (Change, Watermark))]

    def changes() -> list[Change]:
        return [item for item in heard() if isinstance(item, Change)]

    running.start("outbox_relay")
    eventually(lambda: len(changes()) == 4, what="the changes of three writers")
    assert {(change.producer, change.op, change.fields.get("email")) for change in changes()} == {
        ("storefront", "upsert", "storefront@example.com"),
        ("crm", "upsert", "crm@example.com"),
        ("crm", "delete", None),
        ("support", "upsert", "support@example.com"),
    }
    assert {change.entity for change in changes()} == {("customer", ID)}
    eventually(
        lambda: (
            len({(item.topic, item.partition) for item in heard() if isinstance(item, Watermark)})
            == len(topics) * own.topic_partitions
        ),
        what="a watermark in each partition",
    )
    eventually(lambda: database.outbox("customers") == [], what="an empty outbox")
