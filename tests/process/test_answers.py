"""What a person answers about a customer, over the real road: services' SQL, relay, Kafka, flow, the command
line, and the way back to ``profiles.customers``."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from psycopg.types.json import Jsonb

from syncline.model.errors import NotPossible
from syncline.monitor.verification import verify
from syncline.settings import Settings
from tests.lax_policies import without_rules
from tests.own import own_settings
from tests.process.running import Command, Flow, Running
from tests.services.database import Database
from tests.waiting import eventually

NAME = "customer_profiles"
BY = ("--by", "ann", "--why", "she called the customer")
A, B, C = "ann@a.example", "ann@b.example", "ann@c.example"
LONG_AFTER = timedelta(minutes=1)
"""More than the window in which edits are concurrent, and less than a writer's clock may be ahead."""
Property = Callable[[str, object], None]


@pytest.fixture(scope="module")
def own(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with own_settings(settings, "answers", redis_database=13, home=tmp_path_factory.mktemp("answers")) as own:
        yield own


@pytest.fixture(scope="module")
def flow(own: Settings) -> Iterator[Flow]:
    """The relay runs too."""
    with Running(own) as running:
        running.start("outbox_relay")
        yield running.start(NAME)


@pytest.fixture
def database(own: Settings) -> Iterator[Database]:
    with Database(own.postgres_dsn.get_secret_value()) as database:
        yield database


class Customer:
    """Whom services write about, and what the copy says then."""

    def __init__(self, database: Database, command: Command) -> None:
        self.id = str(uuid4())
        self.entity = f"customer:{self.id}"
        self._database = database
        self._command = command

    def write(self, writer: str, email: str, after: timedelta = timedelta()) -> None:
        """As the service; ``after`` is how much later than now the edit was made, by its own clock."""
        made = {} if not after else {"email": {"at": (datetime.now(UTC) + after).isoformat()}}
        with self._database.connect(writer) as connection:
            connection.execute(
                f"""
                INSERT INTO customers.{writer} (id, email, field_versions)
                VALUES (%(id)s, %(email)s, %(made)s)
                ON CONFLICT (id) DO UPDATE
                SET email = excluded.email, field_versions = customers.{writer}.field_versions || %(made)s
                """.encode(),
                {"id": self.id, "email": email, "made": Jsonb(made)},
            )

    def email(self) -> str | None:
        rows = self._database.ask("SELECT email FROM profiles.customers WHERE id = %s", (self.id,))
        return rows[0][0] if rows else None

    def await_email(self, email: str, what: str) -> None:
        eventually(lambda: self.email() == email, what=f"{what}, {email}")

    def reviews(self, *arguments: str) -> list[dict[str, Any]]:
        told = self._command("conflicts", "list", "--entity", self.entity, "--json", *arguments)
        reviews: list[dict[str, Any]] = orjson.loads(told)["reviews"]
        return reviews

    def await_review(self) -> str:
        """The name of the one that is open."""
        [review] = eventually(lambda: self.reviews("--open"), what="a review")
        assert review["state"] == "open"
        return f"r{review['id']}"

    def await_closed(self) -> None:
        def is_closed() -> bool:
            return [review["state"] for review in self.reviews()] == ["closed"]

        eventually(is_closed, what="the end of the review")
        assert self.reviews("--open") == []

    def await_quarantine(self) -> int:
        def entries() -> list[dict[str, Any]]:
            told = self._command("quarantine", "list", "--entity", self.entity, "--json")
            found: list[dict[str, Any]] = orjson.loads(told)
            return found

        [entry] = eventually(entries, what="the entry of the quarantine")
        number: int = entry["id"]
        return number

    def disputed(self) -> str:
        """Two services write of it at the same time; the name of the review."""
        self.write("storefront", A)
        self.write("crm", B)
        review = self.await_review()
        assert self.email() == A
        return review


@pytest.fixture
def customer(flow: Flow, database: Database, command: Command) -> Customer:
    return Customer(database, command)


def one_line(text: str) -> str:
    return " ".join(text.split())


def timed(record: Property, what: str, customer: Customer, email: str, act: Callable[[], object]) -> None:
    """From the start of the act until the copy shows the address."""
    began = time.monotonic()
    act()
    customer.await_email(email, what)
    took_ms = round((time.monotonic() - began) * 1000)
    record(f"{what}, from the command to the copy, ms", took_ms)


def test_what_a_person_takes_of_a_review_is_in_the_copy(
    own: Settings, customer: Customer, command: Command, record_testsuite_property: Property
) -> None:
    review = customer.disputed()
    timed(
        record_testsuite_property,
        "a review resolved",
        customer,
        B,
        lambda: command("conflicts", "resolve", review, "--take", "crm", *BY),
    )
    customer.await_closed()
    shown = one_line(command("conflicts", "show", review))
    assert "resolved by ann, " in shown
    assert "why she called the customer" in shown

    told = one_line(command("explain", "customer", customer.id, "--field", "email"))
    assert f'crm "{B}", storefront "{A}"' in told
    assert re.search(r"(storefront v\d+ met crm v\d+|crm v\d+ met storefront v\d+) at", told)
    assert "resolved by ann: she called the customer" in told
    assert "a person's answer of version" in told

    story = orjson.loads(command("explain", "customer", customer.id, "--field", "email", "--json"))
    [field] = story["fields"]
    assert (field["value"], field["said"]) == (B, {"storefront": A, "crm": B})
    assert "a person's answer" in field["rule"]
    [conflict] = story["conflicts"]
    sides = {side["writer"]: side["value"] for side in (conflict["known"], conflict["arrived"])}
    assert (conflict["kind"], conflict["field"], sides) == (
        "timestamp",
        "email",
        {"storefront": A, "crm": B},
    )
    [asked] = story["reviews"]
    for resolution in (conflict["resolution"], asked["resolution"]):
        assert (resolution["by"], resolution["why"]) == ("ann", "she called the customer")
        assert resolution["how"]["value"] == B
    assert (asked["state"], story["finding"]) == ("closed", "equal")
    assert verify(NAME, own).is_clean

    customer.write("storefront", C, after=LONG_AFTER)
    customer.await_email(C, "an edit long after")
    assert customer.reviews("--open") == []


def test_what_a_person_sets_instead_is_in_the_copy(
    customer: Customer, command: Command, record_testsuite_property: Property
) -> None:
    review = customer.disputed()
    timed(
        record_testsuite_property,
        "a review answered otherwise",
        customer,
        C,
        lambda: command("conflicts", "resolve", review, "--set", f"email={C}", *BY),
    )
    customer.await_closed()
    customer.write("crm", A, after=LONG_AFTER)
    customer.await_email(A, "an edit long after")


def test_an_answer_that_breaks_a_rule_is_told_at_once(customer: Customer, command: Command) -> None:
    review = customer.disputed()
    with pytest.raises(NotPossible, match=f"{review}: {NAME} would not take .* email: 'nobody' must match"):
        command("conflicts", "resolve", review, "--set", "email=nobody", *BY)
    [asked] = customer.reviews("--open")
    assert asked["resolution"] is None


def test_an_answer_that_fails_on_its_way_leaves_the_review_open_to_be_answered_anew(
    customer: Customer, command: Command, flow: Flow, tmp_path: Path
) -> None:
    review = customer.disputed()
    with pytest.MonkeyPatch.context() as older:
        older.setenv("SYNCLINE_POLICIES_DIR", str(without_rules(tmp_path)))
        command("conflicts", "resolve", review, "--set", "email=nobody", *BY)
    entry = customer.await_quarantine()
    assert (customer.email(), customer.await_review()) == (A, review)
    told = one_line(command("quarantine", "show", entry))
    assert "email: 'nobody' must match" in told
    assert f"Next: syncline conflicts show {review}, and answer anew" in told
    assert "failed email: 'nobody' must match" in one_line(command("conflicts", "show", review))
    assert "which failed: email: 'nobody' must" in one_line(command("explain", "customer", customer.id))

    command("conflicts", "resolve", review, "--set", f"email={C}", *BY)
    customer.await_email(C, "the new answer")
    customer.await_closed()
    shown = orjson.loads(command("quarantine", "show", entry, "--json"))
    assert (shown["state"], shown["why"]) == ("discarded", "answered anew: she called the customer")
    assert "failed" not in one_line(command("conflicts", "show", review))
    assert flow.process.poll() is None


def test_a_corrected_row_is_in_the_profile(
    own: Settings, customer: Customer, command: Command, record_testsuite_property: Property
) -> None:
    customer.write("storefront", A)
    customer.await_email(A, "the profile")
    customer.write("crm", "nobody", after=LONG_AFTER)
    entry = customer.await_quarantine()
    assert customer.email() == A
    assert verify(NAME, own).is_clean
    timed(
        record_testsuite_property,
        "a row corrected",
        customer,
        B,
        lambda: command("quarantine", "correct", entry, "--set", f"email={B}", *BY),
    )
    assert customer.reviews() == []
    eventually(
        lambda: orjson.loads(command("quarantine", "show", entry, "--json"))["state"] == "replayed",
        what="the end of the replay",
    )
    report = verify(NAME, own)
    assert report.is_clean, report.differing_keys
    assert [key.quarantined for key in report.explained_keys if key.key == customer.id] == [
        (customer.entity,)
    ]
    customer.write("crm", C, after=2 * LONG_AFTER)
    customer.await_email(C, "the next version")
