"""Who is told of what."""

from syncline.policies.reading import load_policies
from syncline.policies.recipients import interests

POLICIES = load_policies()
FOUND = interests(POLICIES.recipients, POLICIES.topics("shop"))


def test_the_data_quality_team_is_told_of_everything() -> None:
    interest = FOUND["data-quality"]
    assert interest.everything
    assert interest.entities == {policy.type for policy in POLICIES.entities}
    assert interest.topics == set(POLICIES.topics("shop"))


def test_an_owner_is_told_of_its_own_entities_and_topics() -> None:
    interest = FOUND["pricing"]
    assert interest.entities == {"price"}
    assert interest.topics == {"shop.pricing.price"}
    assert not interest.everything


def test_what_cannot_be_decoded_is_told_to_its_producer_in_the_owners_place() -> None:
    assert FOUND["crm"].topics == {"shop.customers.crm"}
    assert FOUND["crm"].entities == set()
    assert FOUND["customers"].entities == {"customer"}
    assert FOUND["customers"].topics == set()


def test_any_recipient_may_be_named_for_an_entity() -> None:
    found = interests({"price": ["finance", "pricing"], "stock": ["finance"]}, POLICIES.topics("shop"))
    assert found["finance"].entities == {"price", "stock"}
    assert found["finance"].everything
    assert "shop.pricing.price" in found["finance"].topics
    assert "shop.warehouse.stock" in found["warehouse"].topics
