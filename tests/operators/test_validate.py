"""A part is checked by all rules of its entity's type, and all complaints are told at once."""

from pathlib import Path

import pytest

from operators.validate import Validate
from syncline.model.errors import Contradictory, Invalid
from syncline.policies.reading import load_policies
from syncline.policies.rules import Rule
from tests.changes import price_part, product_part
from tests.customers import Resolved, resolution_part
from tests.lax_policies import without_rules

complains = Rule(lambda body, _slot: f"complaint of {body['name']}")
is_content = Rule(lambda _body, _slot: None)
contradicts = Rule(complains.check, is_between_fields=True)


def test_a_part_that_keeps_all_rules_is_valid() -> None:
    assert Validate({"product": [is_content, is_content]})(product_part()) is None


def test_every_complaint_is_told() -> None:
    error = Validate({"product": [complains, is_content, complains]})(product_part())

    assert isinstance(error, Invalid)
    assert str(error) == "complaint of Kettle; complaint of Kettle"


def test_values_that_contradict_each_other_are_told_apart_by_class() -> None:
    assert type(Validate({"product": [complains]})(product_part())) is Invalid
    assert type(Validate({"product": [complains, contradicts]})(product_part())) is Contradictory


def test_rules_are_asked_only_of_their_own_type() -> None:
    validate = Validate({"product": [complains]})

    assert validate(price_part()) is None


def test_a_delete_breaks_no_rule() -> None:
    assert Validate({"product": [complains]})(product_part(1, "delete")) is None


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("email", "nobody", "email: 'nobody' must match [^@]+@[^@]+"),
        ("email", "ann@a.example", None),
        ("email", None, None),
        ("phone", "nobody", None),
        (
            "marketing_consent",
            {"marketing_consent": None, "consent_at": None},
            "marketing_consent: null is empty",
        ),
        ("marketing_consent", {"marketing_consent": False, "consent_at": None}, None),
    ],
)
def test_a_person_s_answer_keeps_the_rules_of_its_own_field(
    tmp_path: Path, field: str, value: object, complaint: str | None
) -> None:
    with (without_rules(tmp_path) / "customer.toml").open("a") as file:
        file.write("[[rules]]\ncolumn = 'email'\npattern = '[^@]+@[^@]+'\n")
        file.write("[[rules]]\nrequired = 'marketing_consent'\n[[rules]]\npython = 'builtins:repr'\n")
    validate = Validate(load_policies(tmp_path).flow("customer_profiles").rules)

    error = validate(resolution_part(Resolved(field, value, 1, 0, {})))

    assert (error is None) if complaint is None else complaint in str(error)
