"""Which cached entries a change makes stale."""

from collections.abc import Iterable

from syncline.model.decision import Applied


def customer_cache_keys(documents: Iterable[Applied]) -> set[str]:
    """The customer's profile."""
    return {f"customer:{applied.document_id}" for applied in documents}


def cache_keys(documents: Iterable[Applied]) -> set[str]:
    """The product's page, the price by itself, and the listings of the product's category, old and new."""
    keys: set[str] = set()
    for applied in documents:
        document_id = applied.document_id
        keys.add(f"product:{document_id}")
        for part, _, _, replaced in applied.verdicts:
            if part.entity.startswith("price:"):
                keys.add(f"price:{document_id}:{part.slot}")
            elif not part.slot:  # of all that a document is made of, only the product has none
                for body in (part.body, replaced):
                    if body is not None and (category := body.get("category")):
                        keys.add(f"category:{category}")
    return keys
