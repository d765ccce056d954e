"""Whatever the order in which the writers' changes arrive, profiles and open reviews are the same.

And where each writer's own changes arrive in order, as a log delivers them, every pair of values that were
concurrent is told, however early the other one was replaced. Both are held against a reference that reads a
whole history at once.

``SYNCLINE_HISTORIES=20000 pytest tests/operators/test_profile_convergence.py`` looks deeper.
"""

import os
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from operators.calls import do
from operators.decide import Decide
from operators.deliver import Deliver
from syncline.model.decision import Decided
from syncline.model.document import Document
from syncline.model.part import Part
from syncline.policies.customer_profile import CUSTOMER_COLUMNS, CustomerProfile
from syncline.policies.rules import Rule
from tests.customers import CUSTOMERS, Wrote, published
from tests.memory_store import Fault, MemoryStore
from tests.operators.delivering import IN_ORDER, Delivering, Delivery, deliveries
from tests.operators.simulation import Copy, ManualClock, NoWait, Rank
from tests.policies import profile_reference as reference
from tests.policies.customer_histories import (
    INVALID_EMAIL,
    REFUSED_PHONE,
    WRITERS,
    histories,
    is_remembered_whole,
    never_stands,
    varied_histories,
)

HISTORIES = int(os.environ.get("SYNCLINE_HISTORIES", "400"))
property_of_histories = settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

property_of_sets = settings(property_of_histories, max_examples=max(HISTORIES // 4, 1))

pytestmark = pytest.mark.timeout(max(180, HISTORIES // 5))


def email_is_one(body: dict[str, Any], slot: str) -> str | None:
    email = body.get("email")
    return f"email: {email!r} must have an @" if email == INVALID_EMAIL else None


def refuses(document: Document) -> str | None:
    """What no part may bring into the store."""
    is_there = any(row["phone"] == REFUSED_PHONE for row in document["_sync"]["rows"].values())
    return "phone" if is_there else None


RULES: dict[str, Sequence[Rule]] = {"customer": (Rule(email_is_one),)}
SHAPE = CustomerProfile(CUSTOMERS.conflicts)
PROFILES = Copy(SHAPE, RULES, refuses, never_stands)


class Came(NamedTuple):
    """What a delivery came to."""

    profiles: dict[str, dict[str, Any]]
    open_reviews: dict[tuple[str, str], tuple[dict[str, str], str]]


def delivered(
    history: Sequence[Part], delivery: Delivery
) -> tuple[Came, set[reference.Told], set[tuple[str, Rank]]]:
    """What it came to, the conflicts that were told, and what was left out for good."""
    delivering = Delivering(PROFILES, history, delivery)
    store = delivering.run()
    conflicts = [conflict for process in delivering.processes for conflict in process.conflicts]
    reviews = [review for process in delivering.processes for review in process.reviews]
    came = Came(plain(store), reference.open_reviews(reviews))
    told = {reference.told(conflict) for conflict in conflicts if conflict.field}
    return came, told, delivering.left_out


def plain(store: MemoryStore) -> dict[str, dict[str, Any]]:
    """The profiles in the shape of the reference, without what depends on the order of arrival."""
    profiles = {}
    for customer in store.documents:
        document = store.document(customer)
        entities = document["_sync"]["entities"]
        profiles[customer] = {
            "fields": {column: document[column] for column in CUSTOMER_COLUMNS},
            "is_hidden": document["_sync"]["hidden"],
            "versions": {entity: said["version"] for entity, said in entities.items()},
        }
    return profiles


def must_come_to(history: Sequence[Part]) -> Came:
    good = [part for part in history if not never_stands(part)]
    profiles: dict[str, dict[str, Any]] = {}
    reviews: dict[tuple[str, str], tuple[dict[str, str], str]] = {}
    for customer in {part.document_id for part in good}:
        profile = reference.profile([part for part in good if part.document_id == customer])
        profiles[customer] = {
            "fields": profile.fields,
            "is_hidden": profile.is_hidden,
            "versions": profile.versions,
        }
        reviews |= {(customer, field): review for field, review in profile.open_reviews.items()}
    return Came(profiles, reviews)


@property_of_histories
@given(history=varied_histories, order=st.randoms(use_true_random=False), delivery=deliveries)
def test_any_delivery_ends_in_the_same_profiles_and_open_reviews(
    history: list[Part], order: random.Random, delivery: Delivery
) -> None:
    assume(history)
    shuffled = list(history)
    order.shuffle(shuffled)

    came, _, left_out = delivered(shuffled, delivery)

    arrived = [part for part in history if (part.entity, part.rank) not in left_out]
    assert came == must_come_to(arrived)
    assert came == delivered(arrived, IN_ORDER)[0]


def without_locks(delivery: Delivery) -> Delivery:
    """What is postponed comes back behind what its writer wrote later."""
    return delivery._replace(
        steps=[step for step in delivery.steps if step[1] != "lock"],
        faults=[fault for fault in delivery.faults if fault is not Fault.RETRY_EVERY_SECOND],
    )


def in_order_of_each_writer(history: Sequence[Part], picks: Sequence[int]) -> list[Part]:
    """The writers' changes interleaved as drawn, those of each in their order."""
    queues: dict[str, deque[Part]] = {}
    for part in history:
        queues.setdefault(part.slot, deque()).append(part)
    interleaved = []
    for pick in [*picks, *[0] * len(history)]:
        if not queues:
            break
        slot = sorted(queues)[pick % len(queues)]
        interleaved.append(queues[slot].popleft())
        if not queues[slot]:
            del queues[slot]
    return interleaved


@property_of_histories
@given(
    history=histories,
    picks=st.lists(st.integers(0, 7), max_size=12),
    rivals=st.sets(st.sampled_from([*WRITERS, "resolution"])),
    delivery=deliveries,
)
def test_in_order_of_each_writer_every_pair_of_concurrent_values_is_told(
    history: list[Part], picks: list[int], rivals: set[str], delivery: Delivery
) -> None:
    assume(history and is_remembered_whole(history))
    interleaved = in_order_of_each_writer(history, picks)
    by_rival = [part.slot.partition(":")[0] in rivals for part in interleaved]
    repeats = [(number, by_rival[number % len(by_rival)]) for number, _ in delivery.repeats]

    came, conflicts, _ = delivered(
        interleaved, without_locks(delivery)._replace(rival=by_rival, repeats=repeats)
    )

    assert conflicts == reference.conflicts(history)
    assert came == must_come_to(history)


def merged(*batches: Sequence[Part]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The profiles and their open reviews after the batches, one after the other."""
    store = MemoryStore(refuses)
    decide = Decide(SHAPE, RULES, Deliver(store, 1 << 20, NoWait().circuit), ManualClock())
    decided = Decided()
    for batch in batches:
        told, left = do(decide(batch))
        assert not left
        decided.add(told)
    documents = (store.document(customer) for customer in store.documents)
    reviews = {document["id"]: reference.open_reviews(SHAPE.reviews(document)) for document in documents}
    return plain(store), reviews


def test_what_came_late_and_alone_is_held_against_what_comes_after() -> None:
    """A superseded part enters nothing, and yet the document is written: it remembers what the part said."""
    steps = [
        Wrote("crm", 10, 0, {"email": "ann@a.example"}),
        Wrote("crm", 12, 100, {"email": "ann@b.example"}),
        Wrote("storefront", 13, 101, {"email": "ann@c.example"}, made_at=2),
    ]
    older, newer, rival = published(steps)
    store = MemoryStore(refuses)
    decide = Decide(SHAPE, RULES, Deliver(store, 1 << 20, NoWait().circuit), ManualClock())

    told = [do(decide([part]))[0].conflicts for part in (newer, older, rival)]

    pairs = [{conflict.known.version[-1], conflict.arrived.version[-1]} for conflict in told[2]]
    assert {10, 13} in pairs


class TestMergingIsAJoin:
    """Of sets of changes: so any tree of merges over them comes to one profile."""

    @property_of_sets
    @given(one=varied_histories, other=varied_histories)
    def test_it_is_commutative(self, one: list[Part], other: list[Part]) -> None:
        assert merged(one, other) == merged(other, one)

    @property_of_sets
    @given(one=varied_histories, two=varied_histories, three=varied_histories)
    def test_it_is_associative(self, one: list[Part], two: list[Part], three: list[Part]) -> None:
        assert merged([*one, *two], three) == merged(one, [*two, *three]) == merged(one, two, three)

    @property_of_sets
    @given(one=varied_histories, again=st.randoms(use_true_random=False))
    def test_it_is_idempotent(self, one: list[Part], again: random.Random) -> None:
        some = [part for part in one if again.random() < 0.5]

        assert merged(one, one) == merged(one, some) == merged([*one, *one]) == merged(one)
