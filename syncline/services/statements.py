"""The statements of ``sql/shop.sql``, by name."""

import re
from importlib import resources

from syncline.services import sql

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def _read() -> dict[str, bytes]:
    _, *named = _NAME.split((resources.files(sql) / "shop.sql").read_text(encoding="utf-8"))
    return {name: text.strip().encode() for name, text in zip(named[::2], named[1::2], strict=True)}


STATEMENTS = _read()
