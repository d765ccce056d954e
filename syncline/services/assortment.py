"""What the shop sells: products that read like a shop's, made up from words and chance."""

from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple


class Category(NamedTuple):
    nouns: tuple[str, ...]
    attributes: Mapping[str, tuple[str | int | float | bool, ...]]
    tags: tuple[str, ...]
    price_from_cents: int
    price_to_cents: int


CATEGORIES: Mapping[str, Category] = {
    "kitchen": Category(
        (
            "kettle",
            "bread knife",
            "cast-iron pan",
            "coffee grinder",
            "mixing bowl",
            "spice mill",
            "pizza stone",
        ),
        {
            "material": ("steel", "oak", "cast iron", "glass"),
            "dishwasher_safe": (True, False),
            "litres": (0.5, 1, 1.7),
        },
        ("cooking", "gift", "bestseller", "new home"),
        900,
        18_900,
    ),
    "lighting": Category(
        ("desk lamp", "pendant", "floor lamp", "bicycle light", "reading lamp", "lantern"),
        {"lumen": (210, 470, 806, 1521), "dimmable": (True, False), "socket": ("E14", "E27", "GU10")},
        ("led", "energy saver", "office", "cosy"),
        1_490,
        24_900,
    ),
    "outdoor": Category(
        ("rucksack", "sleeping bag", "two-person tent", "camping stove", "rain jacket", "water bottle"),
        {
            "weight_g": (180, 420, 950, 2300),
            "color": ("moss", "slate", "rust", "sand"),
            "season": ("summer", "all year"),
        },
        ("hiking", "lightweight", "family", "waterproof"),
        1_290,
        44_900,
    ),
    "audio": Category(
        ("headphones", "record player", "kitchen radio", "loudspeaker", "studio microphone"),
        {"wireless": (True, False), "hours": (8, 24, 40), "color": ("black", "chalk", "petrol")},
        ("bluetooth", "hifi", "travel", "bestseller"),
        2_900,
        79_900,
    ),
    "garden": Category(
        ("secateurs", "watering can", "raised bed", "garden hose", "bird feeder", "hand trowel"),
        {
            "material": ("cedar", "zinc", "recycled plastic"),
            "length_cm": (18, 60, 120),
            "frost_proof": (True, False),
        },
        ("balcony", "spring", "handmade", "bees"),
        490,
        15_900,
    ),
    "stationery": Category(
        ("fountain pen", "notebook", "desk calendar", "pencil case", "wax crayons", "letter opener"),
        {"paper": ("80 g", "100 g", "120 g"), "ruled": (True, False), "pieces": (1, 12, 24)},
        ("school", "office", "gift", "refillable"),
        190,
        8_900,
    ),
}
BRANDS = (
    "Aldervik",
    "Brûmont",
    "Casa Lindo",
    "Dörfler & Söhne",
    "Everhill",
    "Fjordlys",
    "Kōyama",
    "Oakwright",
    "Tamsin",
)
LINES = ("Classic", "Compact", "Nova", "Atelier", "Everyday", "Pro", "Heritage", "Lumen", "Trail")
PRAISE = (
    "Made to be repaired, with every part in stock for ten years.",
    "A quiet favourite of ours: plain, solid and pleasant to hold.",
    "Tested for a winter by people who are hard on their things.",
    "Für jeden Tag gemacht, und für den Sonntag auch.",
    "Small on the shelf, large in use 🎁.",
    "Comes without plastic, in a box that you will want to keep.",
)
STATUSES = ("active", "active", "active", "clearance", "announced")


def product(random: Random, sku: str) -> dict[str, Any]:
    """A new product: every column of ``catalog.products``."""
    name_of_category = random.choice(tuple(CATEGORIES))
    category = CATEGORIES[name_of_category]
    brand, line, noun = random.choice(BRANDS), random.choice(LINES), random.choice(category.nouns)
    return {
        "sku": sku,
        "name": f"{brand} {line} {noun}",
        "description": f"{noun.capitalize()} of the {line} line by {brand}. {random.choice(PRAISE)}",
        "brand": brand,
        "category": name_of_category,
        "attributes": {key: random.choice(values) for key, values in category.attributes.items()},
        "tags": sorted(random.sample(category.tags, random.randint(1, 3))),
        "status": random.choice(STATUSES),
    }


def edit(random: Random, sku: str) -> dict[str, Any]:
    """What a person changes of a product in one go; columns that are not named stay as they are."""
    match random.randrange(4):
        case 0:
            return {"sku": sku, "description": f"{random.choice(PRAISE)} {random.choice(PRAISE)}"}
        case 1:
            category = random.choice(tuple(CATEGORIES.values()))
            return {"sku": sku, "tags": sorted(random.sample(category.tags, random.randint(1, 3)))}
        case 2:
            return {"sku": sku, "status": random.choice(STATUSES)}
        case _:
            return {
                "sku": sku,
                "attributes": {"edition": random.randint(2, 9), "warranty_years": random.randint(2, 10)},
            }


def list_price_cents(random: Random) -> int:
    """A price that ends on 90 cents or on whole euros."""
    category = random.choice(tuple(CATEGORIES.values()))
    euros = random.randint(category.price_from_cents, category.price_to_cents) // 100
    return euros * 100 + random.choice((0, 90, 90))
