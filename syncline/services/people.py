"""Who buys at the shop: names, numbers and addresses, made up from words and chance."""

from random import Random

FIRST_NAMES = (
    "Ada", "Bjørn", "Chiara", "Dilan", "Élodie", "Farid", "Greta", "Hana", "Ines", "Jürgen",
    "Kofi", "Łucja", "Mira", "Noah", "Oksana", "Priya", "Quentin", "Rosa", "Søren", "Tuğba",
)  # fmt: skip
LAST_NAMES = (
    "Albrecht", "Brandão", "Çelik", "Dubois", "Eriksen", "Fischer", "García", "Horváth", "Ito",
    "Janssen", "Kowalska", "Lindqvist", "Moretti", "Nguyen", "O'Brien", "Papadakis", "Weiß",
)  # fmt: skip
STREETS = ("Am Markt", "Birkenweg", "Calle Mayor", "Lange Straße", "Rue du Port", "Via Roma", "Østergade")
CITIES = (
    ("10115", "Berlin"),
    ("50667", "Köln"),
    ("1050", "København"),
    ("75011", "Paris"),
    ("20121", "Milano"),
)
MAILBOXES = ("example.com", "example.net", "example.org")
NOTES = (
    "Called about a late parcel; sent a voucher.",
    "Prefers to be written to in French.",
    "Wants one invoice a month 📄.",
    "Returned a lamp, the replacement is on its way.",
)


def full_name(random: Random) -> str:
    return f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"


def email(random: Random) -> str:
    return f"customer.{random.randrange(10**6):06d}@{random.choice(MAILBOXES)}"


def phone(random: Random) -> str:
    return f"+49 30 {random.randrange(10**7):07d}"


def address(random: Random) -> dict[str, str]:
    postcode, city = random.choice(CITIES)
    street = f"{random.choice(STREETS)} {random.randint(1, 180)}"
    return {"street": street, "postcode": postcode, "city": city}


def note(random: Random) -> str:
    return f"{random.choice(NOTES)} Ticket {random.randrange(10**6)}."
