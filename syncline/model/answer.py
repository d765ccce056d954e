"""What a read came to, and how old that is, ready for HTTP.

Sources: RFC 9111, "HTTP Caching", section 5.1 (``Age``); RFC 9211, "The Cache-Status HTTP Response Header
Field", section 2. The store stands for the origin server of both.
"""

import math
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class Source(StrEnum):
    CACHE = "cache"
    STORE = "store"


class Forward(StrEnum):
    """Why the store was asked, in the words of RFC 9211, section 2.2."""

    NO_ENTRY = "uri-miss"
    STALE = "stale"
    BYPASS = "bypass"
    """The cache was not asked, since it is away."""


class Answer(NamedTuple):
    value: bytes | None
    """``None``: there is none."""
    age: float
    """Seconds since the store was asked for the value; 0 where it answered just now."""
    stale: bool
    """The value may have been changed in the store since: it was invalidated, or it is older than it should
    be."""
    as_of: datetime | None
    """All that was committed before this time is in the value; ``None`` where nobody knows."""
    source: Source
    cache: str
    """The name that the cache goes by in ``Cache-Status``, a token such as ``syncline``."""
    forward: Forward | None
    """Why the store was asked; ``None`` where it was not."""
    stored: bool = False
    """The cache has the value now."""
    ttl: float | None = None
    """Seconds that the cached value stays fresh; negative where it is stale, ``None`` where it is not
    cached."""
    detail: str = ""

    @property
    def age_header(self) -> str | None:
        """The value of ``Age``, never younger than the answer; ``None``: leave the header out, as the store
        itself answered."""
        return str(math.ceil(self.age)) if self.source is Source.CACHE else None

    @property
    def cache_status_header(self) -> str:
        """The value of ``Cache-Status``, such as ``syncline; hit; ttl=290``."""
        said = [self.cache, "hit" if self.forward is None else f"fwd={self.forward}"]
        if self.stored:
            said.append("stored")
        if self.ttl is not None:
            said.append(f"ttl={math.floor(self.ttl)}")
        if self.detail:
            said.append(f"detail={self.detail}")
        return "; ".join(said)
