"""Why a customer's profile says what it says: gathers what the servers know of one customer.

What the sources make of the profile is computed by the flow's own merge over their rows as they stand now,
and the resolutions that the copy has: it tells what is on its way, not whether the merge itself is right.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from sinks.postgres_documents import PostgresStore
from syncline.model.change import Change, EntityKey, Op, content_hash
from syncline.model.document import Document
from syncline.model.message import Message
from syncline.model.part import Part
from syncline.model.version import OpRank, Version
from syncline.monitor.audited_conflicts import (
    AuditedReview,
    Search,
    in_utc,
    read_conflicts,
    read_reviews,
)
from syncline.monitor.explanation import (
    CopyRecord,
    Explanation,
    Facts,
    MappedField,
    Quarantined,
    Retrying,
    SourceEntity,
    SourceRow,
    Unpublished,
    explain,
)
from syncline.monitor.freshness import lowest_watermark_us
from syncline.monitor.source_rows import ReadRow, read_rows
from syncline.monitor.sync_records import records_of
from syncline.monitor.waiting_changes import read_quarantined, read_retrying, read_unpublished
from syncline.policies import reentry
from syncline.policies.customer_profile import ENTITY_TYPE, CustomerProfile, customer_body
from syncline.policies.field_merge import RESOLUTION, Standing
from syncline.policies.ownership import EntityPolicy
from syncline.policies.policies import FlowPolicy
from syncline.policies.reading import load_policies
from syncline.policies.strategies import FieldPolicy
from syncline.postgres import connect
from syncline.settings import Settings

FLOW = "customer_profiles"
ROAD = ("outbox_relay", FLOW)
COPY = "profiles.customers"
OWNER = "customers"


def explain_customer(settings: Settings, customer_id: str) -> Explanation:
    """Look at the watermark, the copy, the sources and what waits, in this order."""
    customer = EntityKey(ENTITY_TYPE, customer_id)
    policy = load_policies(settings.policies_dir).flow(FLOW)
    dsn = settings.postgres_dsn.get_secret_value()
    with connect(dsn, "syncline-explain") as connection:
        reached_us = lowest_watermark_us(connection, FLOW, settings)
        document = _document(dsn, customer_id)
        reads = _read_rows(settings.source_dsns[OWNER], policy, customer_id)
        (looked_at,) = connection.execute("SELECT clock_timestamp()").fetchone() or (datetime.now(UTC),)
        unpublished = read_unpublished(settings.outbox_dsns([OWNER]), customer_id)
        retries = read_retrying(connection, customer_id, FLOW)
        quarantine = read_quarantined(connection, customer_id, ROAD)
        search = Search(flow=FLOW, entities=[customer])
        conflicts, reviews = read_conflicts(connection, search), read_reviews(connection, search)
        waiting = [_of_writer(each, customer) for each in unpublished]
    profile, mapped = CustomerProfile(policy.conflicts), policy.conflicts.fields
    writers = [entity.producer for entity in policy.entities]
    records = records_of(document)
    expected = _expected(profile, customer, reads, document)
    topics = policy.topics(settings.topic_prefix)
    return explain(
        Facts(
            document=customer,
            flow=FLOW,
            copy=COPY,
            is_known=document is not None,
            is_hidden=document["_sync"]["hidden"] if document is not None else None,
            should_be_hidden=not reads,
            hidden_because="no service has a row of this customer, or none any more",
            document_version=document["_sync"]["version"] if document is not None else None,
            records=records,
            entities=dict(_entities(customer_id, writers, reads, records, reviews)),
            fields={} if document is None else profile_fields(profile, mapped, document),
            source_fields=profile_fields(profile, mapped, expected) if reads or document is not None else {},
            conflicts=conflicts,
            reviews=reviews,
            quarantine=list(_of_writers(quarantine, customer, topics)),
            retries=list(_of_writers(retries, customer, topics)),
            unpublished=waiting,
            fresh_until=None if reached_us is None else datetime.fromtimestamp(reached_us / 1e6, UTC),
            looked_at=in_utc(looked_at),
        )
    )


def profile_fields(
    profile: CustomerProfile, fields: Iterable[FieldPolicy], document: Document
) -> dict[str, MappedField]:
    """Every field of the profile, with what each writer says, and whose value stands."""
    standing = profile.standing(document)
    return {
        column: _profile_field(column, policy, standing[policy.name], document)
        for policy in fields
        for column in policy.columns
    }


def _profile_field(
    column: str, policy: FieldPolicy, standing: Standing | None, document: Document
) -> MappedField:
    sync, customer_id = document["_sync"], document["id"]
    said = {
        writer: row[column] for writer, row in sync["rows"].items() if policy.name in row["field_versions"]
    }
    entities = [entity_of(writer, customer_id) for writer in said if writer in policy.writers]
    if policy.name in sync["resolutions"]:
        entities.append(entity_of(f"{RESOLUTION}:{policy.name}", customer_id))
    return MappedField(
        document[column],
        tuple(entities),
        policy.writers[0],
        _rule(policy, standing),
        audited_as=policy.name,
        said=said,
    )


def _rule(policy: FieldPolicy, standing: Standing | None) -> str:
    rule = policy.strategy if policy.rule is None else f"{policy.strategy} by {policy.rule}"
    words = f"{rule} of {', '.join(policy.writers)}"
    if standing is None:
        return f"{words}; nobody says anything"
    chosen = standing.chosen
    whose = "a person's answer" if chosen.writer == RESOLUTION else f"{chosen.writer}'s value"
    asked = ", until a person decides" if standing.needs_review else ""
    return f"{words}; {whose} of version {chosen.version} stands{asked}"


def entity_of(slot: str, customer_id: str) -> str:
    """As the document names what a writer, or a person, says of the customer."""
    return f"{ENTITY_TYPE}:{slot}:{customer_id}"


def _document(dsn: str, customer_id: str) -> Document | None:
    with closing(PostgresStore(dsn, "syncline-explain")) as store:
        stored = store.read([customer_id]).get(customer_id)
    return None if stored is None else stored.document


def _read_rows(dsn: str, policy: FlowPolicy, customer_id: str) -> dict[str, ReadRow]:
    """By writer."""
    reads: dict[str, ReadRow] = {}
    for entity in policy.entities:
        table = f"{entity.owner}.{entity.producer}"
        for read in read_rows(dsn, table, entity.document_column, None, customer_id).values():
            reads[entity.producer] = read
    return reads


def _expected(
    profile: CustomerProfile, customer: EntityKey, reads: Mapping[str, ReadRow], copy: Document | None
) -> Document:
    expected = profile.empty(customer.id)
    if copy is not None:
        expected["_sync"]["resolutions"] = copy["_sync"]["resolutions"]
    for writer, read in reads.items():
        try:
            body = customer_body(read.columns)
        except ValidationError:
            # What the flow cannot transform either; the quarantine says why.
            continue
        profile.put(expected, _part(customer, writer, read, body))
    profile.add_up(expected)
    return expected


def _part(customer: EntityKey, writer: str, read: ReadRow, body: dict[str, Any]) -> Part:
    """The row as if its change had come just now."""
    at_us = 0 if read.row.committed_at is None else round(read.row.committed_at.timestamp() * 1e6)
    change = Change(
        entity=customer,
        op=Op.UPSERT,
        fields=read.columns,
        version=Version(0, read.row.version, OpRank.UPSERT),
        content_hash=content_hash(Op.UPSERT, read.columns),
        event_id="",
        is_first=False,
        producer=writer,
        committed_at_us=at_us,
        commit_time_is_estimated=read.row.commit_time_is_estimated,
        detected_at_us=at_us,
        message=Message("", 0, 0, None, None, (), at_us, at_us),
    )
    return Part(customer.id, entity_of(writer, customer.id), writer, body, change, at_us, at_us)


def _entities(
    customer_id: str,
    writers: Iterable[str],
    reads: Mapping[str, ReadRow],
    records: Mapping[str, CopyRecord],
    reviews: Sequence[AuditedReview],
) -> Iterator[tuple[str, SourceEntity]]:
    """What writers say, and what persons said."""
    audited_as = f"{ENTITY_TYPE}:{customer_id}"
    for writer in writers:
        read = reads.get(writer)
        row = None if read is None else read.row
        yield (
            entity_of(writer, customer_id),
            SourceEntity(OWNER, writer, f"{OWNER}.{writer}", row, audited_as),
        )
    answers = {entity_of(f"{RESOLUTION}:{each.field}", customer_id): each for each in reviews}
    for name in {*answers, *records}:
        row = _answer(answers.get(name), records.get(name))
        if name.startswith(f"{ENTITY_TYPE}:{RESOLUTION}:") and row is not None:
            yield name, SourceEntity(reentry.SCHEMA, RESOLUTION, "sync.reviews", row, audited_as)


def _answer(review: AuditedReview | None, record: CopyRecord | None) -> SourceRow | None:
    """The review's last answer, as the audit has it, else as the copy has it. One that failed is none."""
    if review is not None and review.resolution is not None and review.resolution.failed is None:
        return SourceRow(
            review.resolution.how["version"], review.resolution.at, commit_time_is_estimated=True
        )
    return None if record is None else SourceRow(record.row_version, record.committed_at)


W = TypeVar("W", Quarantined, Retrying)


def _of_writers(waiting: Iterable[W], customer: EntityKey, topics: Mapping[str, EntityPolicy]) -> Iterator[W]:
    """Each under the name that the document gives what its writer says."""
    slots = {topic: entity.producer for topic, entity in topics.items()}
    for each in waiting:
        slot = slots.get(each.position.rpartition("/")[0])
        named = entity_of(slot, customer.id) if slot is not None and each.entity == str(customer) else None
        yield replace(each, entity=named)


def _of_writer(waiting: Unpublished, customer: EntityKey) -> Unpublished:
    is_answer = waiting.aggregate_type == reentry.AGGREGATE_TYPE
    slot = waiting.entity if is_answer else waiting.aggregate_type
    return replace(waiting, entity=None if slot is None else entity_of(slot, customer.id))
