"""Who is told of what."""

from syncline.policies.ownership import ENTITIES, policies_by_topic
from syncline.policies.recipients import DATA_QUALITY, RECIPIENTS, interests

FOUND = interests(RECIPIENTS, policies_by_topic("shop"))


def test_the_data_quality_team_is_told_of_everything() -> None:
    interest = FOUND[DATA_QUALITY]
    assert interest.everything
    assert interest.entities == {policy.type for policy in ENTITIES}
    assert interest.topics == set(policies_by_topic("shop"))


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
    found = interests({"price": ["finance", "pricing"], "stock": ["finance"]}, policies_by_topic("shop"))
    assert found["finance"].entities == {"price", "stock"}
    assert found["finance"].everything
    assert "shop.pricing.price" in found["finance"].topics
    assert "shop.warehouse.stock" in found["warehouse"].topics
