"""Which cached entries a change makes stale."""

from collections.abc import Iterator

from syncline.model.part import Part


def cache_keys(part: Part) -> Iterator[str]:
    """The product's page, the price by itself, and the listings of the product's category."""
    yield f"product:{part.document_id}"
    if part.change.entity.type == "price":
        yield f"price:{part.document_id}:{part.slot}"
    elif part.body is not None and (category := part.body.get("category")):
        yield f"category:{category}"
