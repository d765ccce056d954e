"""How writers' rows become parts, and what the document keeps of them."""

from copy import deepcopy
from typing import Any

import pytest

from operators.transform import Transform
from syncline.model.document import Document, merge, tick
from syncline.model.errors import Untransformable
from syncline.model.failure import Failure
from syncline.model.part import Part
from syncline.policies.customer_profile import (
    CUSTOMER_COLUMNS,
    CustomerProfile,
    customer_body,
    resolution_body,
)
from syncline.policies.field_history import REMEMBERED
from tests.changes import NOON_US
from tests.customers import (
    ANN,
    CUSTOMERS,
    Deleted,
    Resolved,
    Step,
    Wrote,
    decode,
    moment,
    published,
    row_message,
    us,
)

shape = CustomerProfile(CUSTOMERS.conflicts)

ROW: dict[str, Any] = {
    "id": ANN,
    **dict.fromkeys(CUSTOMER_COLUMNS),
    "email": "ann@a.example",
    "field_versions": {"email": {"version": 12, "at": moment(0)}},
    "based_on": {"email": {"crm": 11}},
}
RESOLUTION: dict[str, Any] = {
    "field": "email",
    "value": "ann@a.example",
    "covers": {"crm": 11},
    "at": moment(0),
    "by": "pat",
    "why": "asked",
}


def made_of(*parts: Part) -> Document:
    document = shape.empty(ANN)
    for part in parts:
        merge(shape, document, part, NOON_US)
    tick(shape, document, NOON_US)
    return document


def test_the_policy_names_every_column_of_a_customer_once() -> None:
    columns = [column for field in CUSTOMERS.conflicts.fields for column in field.columns]

    assert sorted(columns) == sorted(CUSTOMER_COLUMNS)


def test_a_row_keeps_its_columns_and_when_each_field_changed() -> None:
    assert customer_body({**ROW, "internal": "not for the profile"}) == {
        **dict.fromkeys(CUSTOMER_COLUMNS),
        "email": "ann@a.example",
        "field_versions": {"email": {"version": 12, "at_us": NOON_US}},
        "based_on": {"email": {"crm": 11}},
    }


def test_a_writer_need_not_say_what_it_had_seen() -> None:
    assert customer_body({**ROW, "based_on": None})["based_on"] == {}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "email a number": ({"email": 5}, "email: 5: .*valid string"),
    "consent a text": ({"marketing_consent": "yes"}, "marketing_consent: 'yes': .*valid boolean"),
    "consent at no time": ({"consent_at": "soon"}, "consent_at: 'soon': .*valid datetime"),
    "address a list": ({"address": ["Markt 1"]}, "address: .*valid dictionary"),
    "address beyond 64 bits": ({"address": {"box": 1e300}}, "does not fit in 64 bits"),
    "id no uuid": ({"id": "ann"}, "id: 'ann': .*should match pattern"),
    "no field versions": ({"field_versions": None}, "field_versions: None: .*valid dictionary"),
    "version a text": (
        {"field_versions": {"email": {"version": "12", "at": moment(0)}}},
        "field_versions.email.version: '12': .*valid integer",
    ),
    "version zero": (
        {"field_versions": {"email": {"version": 0, "at": moment(0)}}},
        "field_versions.email.version: 0: .*greater than or equal to 1",
    ),
    "a time without an end": (
        {"field_versions": {"email": {"version": 12, "at": "infinity"}}},
        "field_versions.email.at: 'infinity': .*valid datetime",
    ),
    "a time of no time zone": (
        {"field_versions": {"email": {"version": 12, "at": "2026-01-01T12:00:00"}}},
        "field_versions.email.at: .*timezone",
    ),
    "seen no version": ({"based_on": {"email": {"crm": None}}}, "based_on.email.crm: None: .*valid integer"),
}


@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
def test_a_row_that_does_not_fit_is_told_by_field_value_and_what_would(
    wrong: dict[str, Any], reason: str
) -> None:
    message = row_message("crm", {**ROW, **wrong}, 12)
    message = message._replace(
        value=(message.value or b"").replace(b"customer:ann", f"customer:{ANN}".encode())
    )
    message = message._replace(key=ANN.encode())

    (failure,) = Transform(CUSTOMERS, lambda: NOON_US)(decode([message]))  # type: ignore[arg-type]

    assert isinstance(failure, Failure)
    with pytest.raises(Untransformable, match=reason):
        raise failure.error


def test_a_resolution_of_several_columns_gives_them_all() -> None:
    consent = {"marketing_consent": False, "consent_at": "2026-01-01T13:00:00+01:00"}

    body = resolution_body(
        {**RESOLUTION, "field": "marketing_consent", "value": consent}, CUSTOMERS.conflicts
    )

    assert body["value"] == {"marketing_consent": False, "consent_at": moment(0)}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"field": "shoe_size"}, "field: 'shoe_size' is unknown; it must be one of email, phone"),
        ({"field": "marketing_consent", "value": True}, "value: True is no marketing_consent"),
        (
            {"field": "marketing_consent", "value": {"marketing_consent": True}},
            "it must be an object of marketing_consent, consent_at",
        ),
    ],
)
def test_a_resolution_that_does_not_fit_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(Untransformable, match=reason):
        resolution_body({**RESOLUTION, **wrong}, CUSTOMERS.conflicts)


def test_a_body_is_not_changed_by_the_document_that_takes_it() -> None:
    (part,) = published([Wrote("crm", 10, 0, {"email": "ann@a.example"}, made_at=3_600)])
    before = deepcopy(part)

    made_of(part)

    assert part == before


def test_what_stood_in_a_part_s_place_is_answered() -> None:
    steps: list[Step] = [
        Wrote("crm", 10, 0, {"email": "ann@a.example"}),
        Wrote("crm", 11, 1, {"email": "ann@b.example"}),
        Deleted("crm", 2),
    ]
    first, second, gone = published(steps)
    document = shape.empty(ANN)

    assert [shape.put(document, part) for part in (first, second, gone, gone)] == [
        None,
        first.body,
        second.body,
        None,
    ]


def test_only_rows_make_a_customer_worth_showing() -> None:
    answer = Resolved("email", "ann@a.example", 1, 0, {})

    assert made_of(*published([answer]))["_sync"]["hidden"]
    assert not made_of(*published([answer, Wrote("support", 10, 0, {"notes": "tall"})]))["_sync"]["hidden"]


def test_a_time_from_the_future_counts_as_the_commit_s() -> None:
    steps = [
        Wrote("storefront", 10, 0, {"email": "ann@a.example"}, made_at=3_600),
        Wrote("crm", 11, 6, {"email": "ann@b.example"}),
        Wrote("support", 12, 6, {"phone": "1"}, made_at=306),
    ]

    document = made_of(*published(steps))

    assert document["email"] == "ann@b.example"
    rows = document["_sync"]["rows"]
    assert rows["storefront"]["field_versions"]["email"]["at_us"] == us(0)
    assert rows["support"]["field_versions"]["phone"]["at_us"] == us(306)


def test_a_field_that_the_policy_does_not_name_is_ignored() -> None:
    (part,) = published([Wrote("crm", 10, 0, {"email": "ann@a.example"})])
    assert part.body is not None
    part.body["field_versions"]["shoe_size"] = {"version": 10, "at_us": us(0)}

    document = made_of(part)

    assert document["email"] == "ann@a.example"
    assert shape.conflicts(document, [part]).conflicts == []


def test_a_document_remembers_only_so_many_values_of_a_writer() -> None:
    steps = [Wrote("crm", 10 + n, n, {"email": f"ann{n}@a.example"}) for n in range(REMEMBERED + 3)]
    parts = published(steps)
    document = made_of(*parts)

    shape.conflicts(document, parts)

    remembered = document["_sync"]["history"]["email"]["crm"]
    assert [entry["version"] for entry in remembered] == list(range(13, 13 + REMEMBERED))


def test_a_pair_is_told_where_one_writer_was_read_far_ahead_of_the_other() -> None:
    ahead = published([Wrote("crm", 20 + n, 60 * n, {"email": f"ann{n}@a.example"}) for n in range(20)])
    (late,) = published([Wrote("storefront", 10, 2, {"email": "ann@b.example"})])
    document = made_of(*ahead)
    assert shape.conflicts(document, ahead).conflicts == []

    (told,) = shape.conflicts(document, [late]).conflicts

    assert (told.known.writer, told.known.version) == ("crm", (20,))


def test_a_later_change_that_only_restates_a_value_does_not_tell_its_conflicts_again() -> None:
    steps = [
        Wrote("storefront", 10, 0, {"email": "ann@a.example"}),
        Wrote("crm", 11, 2, {"email": "ann@b.example"}),
        Wrote("crm", 12, 3, {"phone": "1"}),
    ]
    parts = published(steps)
    document = made_of(*parts)

    told = [len(shape.conflicts(document, [part]).conflicts) for part in parts]

    assert told == [0, 1, 0]
    assert [len(shape.conflicts(document, [part]).conflicts) for part in parts] == [1, 1, 0]


def test_each_field_has_a_review_of_its_own() -> None:
    steps = [
        Wrote("storefront", 10, 0, {"email": "ann@a.example", "phone": "1"}),
        Wrote("crm", 11, 2, {"email": "ann@b.example", "phone": "2"}),
    ]

    reviews = shape.reviews(made_of(*published(steps)))

    assert [(review.field, review.is_open) for review in reviews] == [("email", True), ("phone", True)]


def test_a_review_that_was_ever_open_is_told_as_closed() -> None:
    steps: list[Step] = [
        Wrote("storefront", 10, 0, {"email": "ann@a.example"}),
        Wrote("crm", 11, 2, {"email": "ann@b.example"}),
        Deleted("storefront", 3),
        Deleted("crm", 4),
    ]
    parts = published(steps)
    document = shape.empty(ANN)
    seen = []
    for part in parts:
        merge(shape, document, part, NOON_US)
        version = tick(shape, document, NOON_US)
        seen.append(
            [
                (review.is_open, review.standing, sorted(review.candidates))
                for review in shape.reviews(document)
            ]
        )
        assert all(review.document_version == version for review in shape.reviews(document))

    assert seen == [
        [],
        [(True, "storefront", ["crm", "storefront"])],
        [(False, "crm", ["crm"])],
        [(False, "", [])],
    ]
