"""What the three services write of customers: decided by chance from a seed, without a clock or a database.

The same seed, mix and start give the same transactions in the same order; those of one customer share a lane.

Each edit gives its own time, so what is concurrent does not depend on how fast it is committed. The edits of
a customer lie 10 s or more apart, twice the window in which edits count as concurrent, and most say what they
had seen of the others. Only two that are meant to be concurrent are closer, and neither has seen the other.
All times lie in an era that is over: customers who were edited after it, by whomever, are left alone.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from syncline.model.errors import Misconfigured
from syncline.services import people
from syncline.services.workload import Statement, Transaction

WRITERS = ("storefront", "crm", "support")
LANES = ("customers:1", "customers:2", "customers:3")
SHARED_FIELDS: Mapping[str, tuple[str, ...]] = {
    "email": WRITERS,
    "phone": WRITERS,
    "full_name": ("storefront", "crm"),
    "address": WRITERS,
    "marketing_consent": WRITERS,
}
"""Who may write them. Of ``notes`` it is ``support`` alone."""
FEWEST_CUSTOMERS = 10
"""With fewer than these the shop first gets new ones."""
KINDS = ("join", "edit", "consent", "move", "note", "forget")

_ERA_BEGINS = datetime(2016, 1, 1, tzinfo=UTC)
_LAST_JOIN_DAYS = 9 * 365
_ERA_ENDS = datetime(2026, 1, 1, tzinfo=UTC)
_SHORTEST_PAUSE_S = 10
_LONGEST_PAUSE_S = 2 * 24 * 3_600
_FURTHEST_PAIR_S = 4
_JOINS_BY_WRITER = (6, 3, 1)
_NEW_VALUES: Mapping[str, Callable[[Random], str | dict[str, str]]] = {
    "email": people.email,
    "phone": people.phone,
    "full_name": people.full_name,
    "address": people.address,
}
_CONTACT_FIELDS = ("email", "phone", "full_name")


@dataclass(frozen=True)
class CustomerMix:
    """How often each kind of thing happens, as weights, and how much the services know of each other."""

    join: float = 8
    """A new customer, at one of the services."""
    edit: float = 60
    """Name, email or phone; a service that has no row of the customer yet makes one."""
    consent: float = 12
    """Consent to marketing, given or withdrawn."""
    move: float = 10
    """The whole address."""
    note: float = 8
    """Of the support's own."""
    forget: float = 2
    """One service deletes its row."""

    concurrent: float = 0.05
    """Share of the changes that are one of two concurrent edits of a shared field."""
    informed: float = 0.8
    """Share of the edits that tell which version of the others' values they had seen."""

    def __post_init__(self) -> None:
        weights = [getattr(self, kind) for kind in KINDS]
        if min(weights) < 0 or sum(weights) == 0:
            raise Misconfigured("The weights of a mix are zero or more, and one of them is more than zero.")
        if not (0 <= self.concurrent <= 1 and 0 <= self.informed <= 1):
            raise Misconfigured("The shares of a mix, concurrent and informed, lie between 0 and 1.")


class ConcurrentEdits(NamedTuple):
    """Two services' edits of one field of one customer, to values that differ; neither had seen the other."""

    customer_id: str
    field: str
    values: dict[str, Any]
    """By writer."""
    times: dict[str, str]
    """By writer; ISO 8601."""


class CustomerRow(NamedTuple):
    """What a service's table holds of a customer: the fields that the service ever set."""

    customer_id: str
    writer: str
    fields: dict[str, Any]
    last_edit: datetime


@dataclass(eq=False)
class _Customer:
    id: str
    last_edit: datetime
    rows: dict[str, dict[str, Any]]
    """By writer, the fields that it set."""


class CustomerWorkload:
    """Keeps track of the customers that there are, and makes up what happens to them.

    ``on_concurrent`` is told of two concurrent edits when the second of them is handed out.
    """

    def __init__(
        self, random: Random, mix: CustomerMix, on_concurrent: Callable[[ConcurrentEdits], None]
    ) -> None:
        self._random = random
        self._mix = mix
        self._on_concurrent = on_concurrent
        self._customers: list[_Customer] = []
        self._ids: set[str] = set()

    def know(self, rows: Iterable[CustomerRow]) -> None:
        """Start from customers that exist already."""
        customers: dict[str, _Customer] = {}
        for row in rows:
            customer = customers.setdefault(row.customer_id, _Customer(row.customer_id, row.last_edit, {}))
            customer.last_edit = max(customer.last_edit, row.last_edit)
            customer.rows[row.writer] = row.fields
        self._ids.update(customers)
        self._customers += [customer for customer in customers.values() if _has_time_left(customer)]

    def transactions(self) -> Iterator[Transaction]:
        """What happens next, without end."""
        happenings = (self._join, self._edit, self._consent, self._move, self._note, self._forget)
        weights = [getattr(self._mix, kind) for kind in KINDS]
        # Two concurrent edits are two changes, anything else is one.
        chance_of_two = self._mix.concurrent / (2 - self._mix.concurrent)
        while True:
            if len(self._customers) < FEWEST_CUSTOMERS:
                yield self._join()
            elif self._random.random() < chance_of_two:
                yield from self._two_at_once()
            else:
                yield self._random.choices(happenings, weights)[0]()

    def _join(self) -> Transaction:
        writer = self._random.choices(WRITERS, _JOINS_BY_WRITER)[0]
        at = _ERA_BEGINS + timedelta(seconds=self._random.randrange(_LAST_JOIN_DAYS * 24 * 3_600))
        customer = _Customer(self._new_id(), at, {})
        self._customers.append(customer)
        fields: dict[str, Any] = {"email": self._new_value(customer, "email")}
        for field, chance in (("full_name", 0.9), ("phone", 0.6), ("address", 0.5)):
            if writer in SHARED_FIELDS[field] and self._random.random() < chance:
                fields[field] = self._new_value(customer, field)
        if self._random.random() < 0.5:
            fields |= _given_or_withdrawn(self._random.random() < 0.8, at)
        return _put(customer, writer, at, fields)

    def _edit(self) -> Transaction:
        customer, at = self._next_customer()
        field = self._random.choice(_CONTACT_FIELDS)
        fields = {field: self._new_value(customer, field)}
        return self._put_informed(customer, self._random.choice(SHARED_FIELDS[field]), at, fields)

    def _consent(self) -> Transaction:
        customer, at = self._next_customer()
        fields = _given_or_withdrawn(self._random.random() < 0.6, at)
        return self._put_informed(customer, self._random.choice(WRITERS), at, fields)

    def _move(self) -> Transaction:
        customer, at = self._next_customer()
        fields = {"address": self._new_value(customer, "address")}
        return self._put_informed(customer, self._random.choice(WRITERS), at, fields)

    def _note(self) -> Transaction:
        customer, at = self._next_customer()
        return _put(customer, "support", at, {"notes": people.note(self._random)})

    def _forget(self) -> Transaction:
        customer, at = self._next_customer()
        if not customer.rows:
            return _put(customer, "support", at, {"notes": people.note(self._random)})
        writer = self._random.choice(sorted(customer.rows))
        del customer.rows[writer]
        statement = Statement(f"delete_{writer}", "customer", "delete", ({"id": customer.id},))
        return Transaction(_lane(customer), (statement,), writer)

    def _two_at_once(self) -> Iterator[Transaction]:
        """Which edit is committed first and which was made first are two throws of the dice.

        The first to be committed may tell what it had seen of the other writer, which is what stood there
        before; the second tells nothing of the first.
        """
        customer, at = self._next_customer()
        field = self._random.choice(tuple(SHARED_FIELDS))
        first, second = self._random.sample(SHARED_FIELDS[field], 2)
        customer.last_edit = at + timedelta(seconds=self._random.uniform(0, _FURTHEST_PAIR_S))
        times = dict(zip((first, second), self._random.sample((at, customer.last_edit), 2), strict=True))
        is_given_by_first = self._random.random() < 0.5
        values: dict[str, Any] = {}
        for writer, unseen in ((first, ()), (second, (first,))):
            if field == "marketing_consent":
                fields = _given_or_withdrawn((writer == first) == is_given_by_first, times[writer])
                values[writer] = fields
            else:
                fields = {field: self._new_value(customer, field)}
                values[writer] = fields[field]
            put = self._put_informed(customer, writer, times[writer], fields, unseen)
            if writer == second:
                by_writer = {writer: _text(moment) for writer, moment in times.items()}
                self._on_concurrent(ConcurrentEdits(customer.id, field, values, by_writer))
            yield put

    def _put_informed(
        self,
        customer: _Customer,
        writer: str,
        at: datetime,
        fields: dict[str, Any],
        unseen: Collection[str] = (),
    ) -> Transaction:
        """An edit that tells what it had seen of all others but these, or, now and then, nothing."""
        if self._random.random() >= self._mix.informed:
            return _put(customer, writer, at, fields)
        others = [other for other in WRITERS if other != writer and other not in unseen]
        return _put(customer, writer, at, fields, {f: others for f in fields if f in SHARED_FIELDS})

    def _next_customer(self) -> tuple[_Customer, datetime]:
        """Someone, and when it happens to them. Whoever has come to the end of the era is let go after it."""
        position = self._random.randrange(len(self._customers))
        customer = self._customers[position]
        customer.last_edit += timedelta(seconds=self._random.randint(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S))
        if not _has_time_left(customer):
            self._customers.pop(position)
        return customer, customer.last_edit

    def _new_value(self, customer: _Customer, field: str) -> str | dict[str, str]:
        """One that no service has for the customer."""
        values = [fields.get(field) for fields in customer.rows.values()]
        while (value := _NEW_VALUES[field](self._random)) in values:
            pass
        return value

    def _new_id(self) -> str:
        while (customer_id := str(UUID(int=self._random.getrandbits(128), version=4))) in self._ids:
            pass
        self._ids.add(customer_id)
        return customer_id


def _put(
    customer: _Customer,
    writer: str,
    at: datetime,
    fields: dict[str, Any],
    seen: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Transaction:
    customer.rows.setdefault(writer, {}).update(fields)
    row = {"id": customer.id, "fields": fields, "at": _text(at), "seen": dict(seen)}
    return Transaction(_lane(customer), (Statement(f"put_{writer}", "customer", "upsert", (row,)),), writer)


def _given_or_withdrawn(is_given: bool, at: datetime) -> dict[str, Any]:
    return {"marketing_consent": is_given, "consent_at": _text(at)}


def _has_time_left(customer: _Customer) -> bool:
    return customer.last_edit + timedelta(seconds=2 * _LONGEST_PAUSE_S) < _ERA_ENDS


def _lane(customer: _Customer) -> str:
    return LANES[UUID(customer.id).int % len(LANES)]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
