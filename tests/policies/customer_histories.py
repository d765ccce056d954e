"""Generated histories of customers whom three writers and people write, as the tables would publish them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from syncline.model.part import Part
from syncline.policies.field_history import REMEMBERED
from tests.customers import ANN, BOB, Deleted, Resolved, Step, Wrote, moment, published, row_part

WRITERS = ("storefront", "crm", "support")
INVALID_EMAIL, REFUSED_PHONE = "nobody", "666"
CONTENTS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "email": [{"email": email} for email in ("ann@a.example", "ann@b.example", "ann@c.example", None)],
    "phone": [{"phone": phone} for phone in ("1", "2", "3", None)],
    "full_name": [{"full_name": name} for name in ("Ann", "Anne", "A. Ärmel", None)],
    "address": [{"address": {"city": city}} for city in ("Aachen", "Bonn", "Celle", "Düren")],
    "marketing_consent": [
        {"marketing_consent": True, "consent_at": moment(0)},
        {"marketing_consent": False, "consent_at": moment(0)},
        {"marketing_consent": True, "consent_at": moment(1)},
        {"marketing_consent": None, "consent_at": None},
    ],
    "notes": [{"notes": notes} for notes in ("tall", "small", "left", None)],
}
_FIELDS = (*["email"] * 4, *["marketing_consent"] * 3, "address", "address", "phone", "full_name", "notes")


class Act(NamedTuple):
    """What happens next; what it says of versions is cut to those that there are by then."""

    what: str
    gap: float
    """Seconds after the act before it."""
    customer: str
    writer: str
    fields: Mapping[str, int]
    """By field: which of the contents."""
    made_before: float | None
    """How long before the commit the writer says that it made this; negative lies in the future."""
    saw: Mapping[str, int]
    """By other writer: a version that was seen."""


def steps(acts: Sequence[Act]) -> list[Step]:
    """The acts one after the other, as steps with times and versions."""
    made: list[Step] = []
    at = 0.0
    for number, act in enumerate(acts, 1):
        at += act.gap
        saw = {other: min(version, number) for other, version in act.saw.items() if other != act.writer}
        if act.what == "delete":
            made.append(Deleted(act.writer, at, act.customer))
        elif act.what == "resolve":
            field, content = next(iter(act.fields.items()))
            columns = CONTENTS[field][content]
            value = columns if len(columns) > 1 else columns[field]
            covers = {writer: min(version, number) for writer, version in act.saw.items()}
            made.append(Resolved(field, value, number, at, covers, act.customer))
        else:
            columns = {}
            for field, content in act.fields.items():
                columns |= CONTENTS[field][content]
            made_at = None if act.made_before is None else at - act.made_before
            based_on = dict.fromkeys(act.fields, saw) if saw else {}
            made.append(Wrote(act.writer, number, at, columns, made_at, based_on, act.customer))
    return made


acts = st.builds(
    Act,
    what=st.sampled_from([*["write"] * 8, "delete", "resolve", "resolve"]),
    gap=st.sampled_from([0.1, 1.0, 1.0, 2.5, 2.5, 4.9, 5.0, 5.1, 60.0]),
    customer=st.sampled_from([*[ANN] * 7, BOB]),
    writer=st.sampled_from(WRITERS),
    fields=st.dictionaries(st.sampled_from(_FIELDS), st.integers(0, 3), min_size=1, max_size=2),
    made_before=st.sampled_from([*[None] * 8, 3.0, 5.0, 30.0, -200.0, -3600.0]),
    saw=st.one_of(
        st.just({}),
        st.just({}),
        st.dictionaries(st.sampled_from(WRITERS), st.integers(1, 12), max_size=2),
    ),
)
histories = st.lists(acts, min_size=5, max_size=12).map(lambda drawn: published(steps(drawn)))


def twin(part: Part, number: int) -> Part:
    """The same version of a writer's row, with other content."""
    row = {**part.change.fields, "email": f"twin{number}@x.example"}
    return _again(part, row, number)


def spoilt(part: Part, number: int) -> Part:
    """A row that breaks a rule, or that the store refuses."""
    wrong = {"email": INVALID_EMAIL} if number % 2 else {"phone": REFUSED_PHONE}
    return _again(part, {**part.change.fields, **wrong}, number)


def corrected(part: Part, number: int) -> Part:
    again = _again(part, {**part.change.fields, "full_name": f"Ann {number}"}, number)
    version = again.version._replace(correction=1)
    return again._replace(change=again.change._replace(version=version))


def restored(part: Part, number: int) -> Part:
    return _again(part, part.change.fields, number, generation=2)


def _again(part: Part, row: Mapping[str, object], number: int, generation: int = 1) -> Part:
    if part.body is None or part.slot not in WRITERS:
        return part
    event = f"{part.change.event_id}-{number}"
    return row_part(part.slot, row, part.version.row, event=event, generation=generation)


VARIATIONS = (twin, spoilt, corrected, restored)
varied_histories = st.builds(
    lambda history, variations: [
        *history,
        *(
            VARIATIONS[kind](history[at % len(history)], number)
            for number, (kind, at) in enumerate(variations if history else [])
        ),
    ],
    histories,
    st.lists(st.tuples(st.integers(0, len(VARIATIONS) - 1), st.integers(0, 11)), max_size=5),
)
"""With what the tables never publish by themselves."""


def never_stands(part: Part) -> bool:
    body = part.body or {}
    return body.get("email") == INVALID_EMAIL or body.get("phone") == REFUSED_PHONE


def is_remembered_whole(history: Sequence[Part]) -> bool:
    """Whether no writer gave one field more values than a document remembers."""
    given = Counter((part.document_id, part.slot, field) for part in history for field in _said(part))
    return max(given.values(), default=0) <= REMEMBERED


def _said(part: Part) -> list[str]:
    return list(part.body["field_versions"]) if part.body and part.slot in WRITERS else [part.slot]
