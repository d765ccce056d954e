"""The rules that data must keep before it reaches a copy.

A rule looks at one part and answers what is wrong, naming the field, its value and what would be right;
``None`` where nothing is. Types and ranges of columns are checked before, by the entity's model.
"""

from collections.abc import Callable, Mapping, Sequence

from syncline.model.part import Part

Rule = Callable[[Part], str | None]


def name_is_there(part: Part) -> str | None:
    name = (part.body or {}).get("name")
    return None if name and name.strip() else f"name: {name!r} is empty; a product needs a name"


def list_amount_is_there(part: Part) -> str | None:
    list_e4 = (part.body or {}).get("list_e4")
    if list_e4 is None or list_e4 < 0:
        return f"list_amount: {_amount(list_e4)} is no price; it must be zero or more"
    return None


def sale_amount_is_not_above_list_amount(part: Part) -> str | None:
    body = part.body or {}
    list_e4, sale_e4 = body.get("list_e4"), body.get("sale_e4")
    if sale_e4 is None or list_e4 is None or 0 <= sale_e4 <= list_e4:
        return None
    return f"sale_amount: {_amount(sale_e4)} must lie between 0 and the list amount, {_amount(list_e4)}"


def price_ends_after_it_begins(part: Part) -> str | None:
    body = part.body or {}
    start, end = body.get("valid_from"), body.get("valid_to")
    if start is None or end is None or start <= end:
        return None
    return f"valid_to: {end} must not be before valid_from, {start}"


def reserved_is_not_above_on_hand(part: Part) -> str | None:
    body = part.body or {}
    on_hand, reserved = body.get("on_hand", 0), body.get("reserved", 0)
    if 0 <= reserved <= on_hand:
        return None
    return f"reserved: {reserved} must lie between 0 and on_hand, {on_hand}"


RULES: Mapping[str, Sequence[Rule]] = {
    "product": (name_is_there,),
    "price": (list_amount_is_there, sale_amount_is_not_above_list_amount, price_ends_after_it_begins),
    "stock": (reserved_is_not_above_on_hand,),
}
"""By entity type. A delete has no body and breaks no rule."""


def _amount(e4: int | None) -> str:
    return "null" if e4 is None else f"{e4 / 10_000:.4f}"
