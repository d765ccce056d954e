"""The cases of ``docs/conflicts.md``, one by one: what was known, what came, and what is decided.

Customers are told by steps (``tests/customers.py``): times are seconds after noon.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from syncline.model.part import Part
from tests.changes import price_part, product_part, stock_part, with_correction
from tests.customers import Deleted, Resolved, Step, Wrote, moment


class Rows(NamedTuple):
    """Changes of products, prices and stock: each entity has one writer, and its newest version stands."""

    known: Sequence[Part]
    came: Part
    decision: str
    shows: Mapping[str, object]
    """By path into the document."""
    conflict: str | None = None
    """Who won, where it is one: ``known`` or ``arrived``."""


class Writers(NamedTuple):
    """Changes of a customer by several writers, each with a row of its own."""

    known: Sequence[Step]
    came: Step
    shows: Mapping[str, object]
    """By column of the profile."""
    conflicts: Sequence[tuple[str, str, str, str]] = ()
    """Kind, field, rule, and who won."""
    under_review: Sequence[str] = ()
    """The fields with an open review."""
    decision: str = "applied"
    is_hidden: bool = False


A, B = "ann@a.example", "ann@b.example"
GRANTED_AT_NOON = {"marketing_consent": True, "consent_at": moment(0)}
WITHDRAWN_AT_NOON = {"marketing_consent": False, "consent_at": moment(0)}
GRANTED_LATER = {"marketing_consent": True, "consent_at": moment(1)}
AACHEN, BONN = {"city": "Aachen", "street": "Markt 1"}, {"city": "Bonn", "street": "Am Hof 2"}

LOW, HIGH = sorted([stock_part(5, on_hand=10), stock_part(5, on_hand=11)], key=lambda part: part.rank)
_HIGH_ON_HAND = HIGH.change.fields["on_hand"]
_RESTORED = stock_part(1, on_hand=3)
RESTORED = _RESTORED._replace(
    change=_RESTORED.change._replace(version=_RESTORED.version._replace(generation=2))
)
ON_HAND, NAME = "stock.on_hand", "name"

_BOTH_EMAILS = (Wrote("storefront", 10, 0, {"email": A}), Wrote("crm", 11, 2, {"email": B}))
_TIMESTAMP, _VERSION = ("timestamp", "email", "manual"), ("version", "email", "manual")

CASES: Mapping[str, Rows | Writers] = {
    # One writer an entity: products, prices, stock.
    "first change": Rows([], stock_part(5), "applied", {ON_HAND: 10}),
    "newer version": Rows([stock_part(5)], stock_part(6, on_hand=4), "applied", {ON_HAND: 4}),
    "older version": Rows([stock_part(6, on_hand=4)], stock_part(5), "superseded", {ON_HAND: 4}),
    "gap in versions": Rows([stock_part(5)], stock_part(9, on_hand=4), "applied", {ON_HAND: 4}),
    "duplicate": Rows([stock_part(5)], stock_part(5), "duplicate", {ON_HAND: 10}),
    "same version, higher hash": Rows([LOW], HIGH, "applied", {ON_HAND: _HIGH_ON_HAND}, "arrived"),
    "same version, lower hash": Rows([HIGH], LOW, "rejected", {ON_HAND: _HIGH_ON_HAND}, "known"),
    "delete against upsert of its version": Rows(
        [stock_part(5)], stock_part(5, "delete"), "applied", {ON_HAND: 0}
    ),
    "late upsert after a delete": Rows(
        [stock_part(5), stock_part(5, "delete")], stock_part(4), "superseded", {ON_HAND: 0}
    ),
    "upsert again of the deleted version": Rows(
        [stock_part(5, "delete")], stock_part(5), "superseded", {ON_HAND: 0}
    ),
    "late delete after a newer upsert": Rows(
        [stock_part(6, on_hand=4)], stock_part(5, "delete"), "superseded", {ON_HAND: 4}
    ),
    "created again": Rows([stock_part(5, "delete")], stock_part(6, on_hand=4), "applied", {ON_HAND: 4}),
    "delete twice": Rows(
        [stock_part(5, "delete", on_hand=1)], stock_part(5, "delete", on_hand=2), "duplicate", {ON_HAND: 0}
    ),
    "corrected version": Rows(
        [stock_part(5)], with_correction(stock_part(5, on_hand=4), 1), "applied", {ON_HAND: 4}
    ),
    "correction that came too late": Rows(
        [stock_part(6, on_hand=4)], with_correction(stock_part(5), 1), "superseded", {ON_HAND: 4}
    ),
    "restored source": Rows([stock_part(900)], RESTORED, "applied", {ON_HAND: 3}),
    "late change from before a restore": Rows([RESTORED], stock_part(900), "superseded", {ON_HAND: 3}),
    "price before its product": Rows(
        [], price_part(5), "applied", {"prices.EUR.list_e4": 129_000, "_sync.hidden": True}
    ),
    "product beside its price": Rows(
        [price_part(5)], product_part(3), "applied", {"prices.EUR.list_e4": 129_000, NAME: "Kettle"}
    ),
    "another warehouse": Rows(
        [stock_part(5)], stock_part(2, warehouse_id="W2", on_hand=7), "applied", {ON_HAND: 17}
    ),
    # Several writers: who knew of whose value.
    "different fields": Writers(
        [Wrote("storefront", 10, 0, {"email": A})],
        Wrote("crm", 11, 2, {"phone": "1"}),
        {"email": A, "phone": "1"},
    ),
    "both say the same": Writers(
        [Wrote("storefront", 10, 0, {"email": A})], Wrote("crm", 11, 2, {"email": A}), {"email": A}
    ),
    "long after": Writers(
        [Wrote("storefront", 10, 0, {"email": A})], Wrote("crm", 11, 6, {"email": B}), {"email": B}
    ),
    "late, but made long before": Writers(
        [Wrote("crm", 11, 6, {"email": B})], Wrote("storefront", 10, 0, {"email": A}), {"email": B}
    ),
    "within the window": Writers(
        [_BOTH_EMAILS[0]], _BOTH_EMAILS[1], {"email": A}, [(*_TIMESTAMP, "known")], ["email"]
    ),
    "within the window, other order": Writers(
        [_BOTH_EMAILS[1]], _BOTH_EMAILS[0], {"email": A}, [(*_TIMESTAMP, "arrived")], ["email"]
    ),
    "exactly one window apart": Writers(
        [Wrote("storefront", 10, 0, {"email": A})],
        Wrote("crm", 11, 5, {"email": B}),
        {"email": A},
        [(*_TIMESTAMP, "known")],
        ["email"],
    ),
    "had seen the other's": Writers(
        [Wrote("storefront", 10, 0, {"email": A})],
        Wrote("crm", 11, 1, {"email": B}, based_on={"email": {"storefront": 10}}),
        {"email": B},
    ),
    "had seen an older one": Writers(
        [Wrote("storefront", 10, 0, {"email": A})],
        Wrote("crm", 11, 3_600, {"email": B}, based_on={"email": {"storefront": 9}}),
        {"email": A},
        [(*_VERSION, "known")],
        ["email"],
    ),
    "each had seen the other's": Writers(
        [Wrote("storefront", 10, 0, {"email": A}, based_on={"email": {"crm": 11}})],
        Wrote("crm", 11, 1, {"email": B}, based_on={"email": {"storefront": 10}}),
        {"email": B},
    ),
    "edit made offline": Writers(
        [Wrote("storefront", 10, 60, {"email": A})],
        Wrote("crm", 11, 120, {"email": B}, made_at=0),
        {"email": A},
    ),
    "edit made offline at the same time": Writers(
        [Wrote("storefront", 10, 0, {"email": A})],
        Wrote("crm", 11, 120, {"email": B}, made_at=1),
        {"email": A},
        [(*_TIMESTAMP, "known")],
        ["email"],
    ),
    "time from the future": Writers(
        [],
        Wrote("crm", 10, 0, {"email": A}, made_at=3_600),
        {"email": A},
        [("timestamp", "email", "field_time_in_future", "arrived")],
    ),
    "concurrent with a value replaced since": Writers(
        [Wrote("storefront", 10, 0, {"email": A}), Wrote("storefront", 12, 60, {"email": "ann@c.example"})],
        Wrote("crm", 11, 2, {"email": B}),
        {"email": "ann@c.example"},
        [(*_TIMESTAMP, "known")],
    ),
    "duplicate of a concurrent change": Writers(
        _BOTH_EMAILS, _BOTH_EMAILS[1], {"email": A}, [(*_TIMESTAMP, "known")], ["email"], "duplicate"
    ),
    "three writers at once": Writers(
        _BOTH_EMAILS,
        Wrote("support", 12, 3, {"email": "ann@c.example"}),
        {"email": A},
        [(*_TIMESTAMP, "known"), (*_TIMESTAMP, "known")],
        ["email"],
    ),
    # Several writers: what each strategy makes of it.
    "last write wins": Writers(
        [Wrote("storefront", 10, 0, {"full_name": "Ann"})],
        Wrote("crm", 11, 2, {"full_name": "Anne"}),
        {"full_name": "Anne"},
        [("timestamp", "full_name", "last_write_wins", "arrived")],
    ),
    "last write wins, whatever the field's time": Writers(
        [Wrote("storefront", 10, 60, {"full_name": "Ann"})],
        Wrote("crm", 11, 120, {"full_name": "Anne"}, made_at=0),
        {"full_name": "Anne"},
    ),
    "address as a whole": Writers(
        [Wrote("storefront", 10, 0, {"address": AACHEN})],
        Wrote("support", 11, 2, {"address": BONN}),
        {"address": BONN},
        [("timestamp", "address", "last_write_wins", "arrived")],
    ),
    "latest consent": Writers(
        [Wrote("storefront", 10, 0, WITHDRAWN_AT_NOON)],
        Wrote("crm", 11, 2, GRANTED_LATER),
        GRANTED_LATER,
        [("timestamp", "marketing_consent", "merge: latest_consent", "arrived")],
    ),
    "older consent of a newer version": Writers(
        [Wrote("storefront", 10, 0, GRANTED_LATER)],
        Wrote("crm", 11, 60, WITHDRAWN_AT_NOON),
        GRANTED_LATER,
    ),
    "withdrawal and grant at the same time": Writers(
        [Wrote("storefront", 10, 0, WITHDRAWN_AT_NOON)],
        Wrote("crm", 11, 2, GRANTED_AT_NOON),
        WITHDRAWN_AT_NOON,
        [("timestamp", "marketing_consent", "merge: latest_consent", "known")],
    ),
    "field of another writer": Writers(
        [Wrote("support", 10, 0, {"notes": "tall"})],
        Wrote("crm", 11, 60, {"notes": "small"}),
        {"notes": "tall"},
        [("ownership", "notes", "not_a_writer_of_the_field", "known")],
    ),
    # Several writers: rows that go, and people's answers.
    "a writer deletes its row": Writers(
        [Wrote("storefront", 10, 0, {"email": A}), Wrote("crm", 11, 60, {"email": B})],
        Deleted("crm", 120),
        {"email": A},
    ),
    "delete that settles a review": Writers(_BOTH_EMAILS, Deleted("crm", 60), {"email": A}),
    "the last row goes": Writers(
        [Wrote("crm", 10, 0, {"email": A})], Deleted("crm", 60), {"email": None}, is_hidden=True
    ),
    "writer gives way": Writers(_BOTH_EMAILS, Wrote("crm", 12, 60, {"email": A}), {"email": A}),
    "resolution": Writers(
        _BOTH_EMAILS, Resolved("email", B, 1, 60, {"storefront": 10, "crm": 11}), {"email": B}
    ),
    "resolution that saw one side": Writers(
        _BOTH_EMAILS,
        Resolved("email", A, 1, 4, {"storefront": 10}),
        {"email": A},
        [(*_TIMESTAMP, "arrived")],
        ["email"],
    ),
    "late change that a resolution saw": Writers(
        [_BOTH_EMAILS[0], Resolved("email", A, 1, 60, {"storefront": 10, "crm": 11})],
        _BOTH_EMAILS[1],
        {"email": A},
        [(*_TIMESTAMP, "known")],
    ),
    "change soon after a resolution": Writers(
        [*_BOTH_EMAILS, Resolved("email", A, 1, 60, {"storefront": 10, "crm": 11})],
        Wrote("crm", 12, 62, {"email": "ann@c.example"}),
        {"email": A},
        [(*_VERSION, "known")],
        ["email"],
    ),
    "change long after a resolution": Writers(
        [*_BOTH_EMAILS, Resolved("email", A, 1, 60, {"storefront": 10, "crm": 11})],
        Wrote("crm", 12, 66, {"email": "ann@c.example"}),
        {"email": "ann@c.example"},
    ),
    "change after a resolution of no review": Writers(
        [
            Wrote("storefront", 10, 0, {"full_name": "Ann"}),
            Resolved("full_name", "Anna", 1, 60, {"storefront": 10}),
        ],
        Wrote("crm", 11, 61, {"full_name": "Anne"}),
        {"full_name": "Anne"},
    ),
    "newer resolution": Writers(
        [*_BOTH_EMAILS, Resolved("email", A, 1, 60, {"storefront": 10, "crm": 11})],
        Resolved("email", B, 2, 90, {"storefront": 10, "crm": 11}),
        {"email": B},
    ),
}
