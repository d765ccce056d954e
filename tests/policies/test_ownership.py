"""Each topic belongs to one entity, and to one service that speaks there."""

from syncline.policies.ownership import EntityPolicy
from syncline.policies.reading import load_policies


def test_each_entity_travels_on_its_owner_s_topic() -> None:
    topics = load_policies().topics("syncline")
    owners = {topic: (policy.producer, policy.type) for topic, policy in topics.items()}

    assert owners == {
        "syncline.catalog.product": ("catalog", "product"),
        "syncline.pricing.price": ("pricing", "price"),
        "syncline.warehouse.stock": ("warehouse", "stock"),
        "syncline.customers.storefront": ("storefront", "customer"),
        "syncline.customers.crm": ("crm", "customer"),
        "syncline.customers.support": ("support", "customer"),
    }


def test_a_topic_may_have_a_name_of_its_own() -> None:
    assert EntityPolicy("product", "erp", own_topic="{prefix}.shop.items").topic("eu") == "eu.shop.items"
