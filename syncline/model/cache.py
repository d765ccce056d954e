"""What the cache's keys in Redis are called.

A *name* is what an entry or a tag is known by: ``product:SKU-1``, ``category:kitchen``. Its *namespace* is
what stands before the first colon. An entry is fresh only as long as all its *tokens* are the ones that it
was filled with: those of its name, of its tags, of their namespaces, and the one of the whole cache. A token
is unique and never drawn again, so losing one, by whatever accident, makes what depends on it stale and never
fresh. To invalidate is to delete tokens.
"""

from collections.abc import Iterable, Sequence

_CACHE = "syncline:cache"
EPOCH_OF_ALL = f"{_CACHE}:epoch"
"""The token of the whole cache."""
SERVER = f"{_CACHE}:server"
"""The run id of the server that the cache was filled on: another one may have come back with an older
state."""


def namespace_of(name: str) -> str:
    return name.partition(":")[0]


def entry_key(name: str) -> str:
    return f"{_CACHE}:entry:{name}"


def lease_key(name: str) -> str:
    return f"{_CACHE}:lease:{name}"


def token_keys(name: str, tags: Iterable[str] = ()) -> Sequence[str]:
    """Of all that the entry depends on, in an order of their own."""
    names = sorted({name, *tags})
    epochs = sorted({namespace_of(each) for each in names})
    return [EPOCH_OF_ALL, *map(_epoch_key, epochs), *map(_token_key, names)]


def invalidated_keys(name: str) -> Sequence[str]:
    """What is deleted where the name is invalidated; a name without a colon is a namespace, all of it.

    The name itself is the key of services that keep a value of their own under it.
    """
    if ":" not in name:
        return [_epoch_key(name)]
    return [name, _token_key(name), lease_key(name)]


def freshness_key(flow: str) -> str:
    """A hash, by owner: until when all that the owner committed is in the flow's copy, in microseconds since
    the epoch."""
    return f"syncline:freshness:{flow}"


def _token_key(name: str) -> str:
    return f"{_CACHE}:token:{name}"


def _epoch_key(namespace: str) -> str:
    return f"{_CACHE}:epoch:{namespace}"
