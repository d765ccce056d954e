"""Which cached entries a change makes stale."""

from collections.abc import Iterator

from syncline.model.decision import Applied


def cache_keys(applied: Applied) -> Iterator[str]:
    """The product's page, the price by itself, and the listings of the product's category, old and new."""
    part = applied.part
    yield f"product:{part.document_id}"
    if part.change.entity.type == "price":
        yield f"price:{part.document_id}:{part.slot}"
    for body in (part.body, applied.replaced):
        if body is not None and (category := body.get("category")):
            yield f"category:{category}"
