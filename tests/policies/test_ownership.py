"""Each topic belongs to one entity of one owner."""

from syncline.policies.ownership import policies_by_topic


def test_each_entity_travels_on_its_owner_s_topic() -> None:
    owners = {
        topic: (policy.producer, policy.type) for topic, policy in policies_by_topic("syncline").items()
    }

    assert owners == {
        "syncline.catalog.product": ("catalog", "product"),
        "syncline.pricing.price": ("pricing", "price"),
        "syncline.warehouse.stock": ("warehouse", "stock"),
        "syncline.customers.storefront": ("storefront", "customer"),
        "syncline.customers.crm": ("crm", "customer"),
        "syncline.customers.support": ("support", "customer"),
    }
