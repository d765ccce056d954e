"""A user's own products, from a file with one JSON object a line, into the services' tables.

Each line is checked whole, as strictly as the tables do it, before anything of it is written. A bad line
is told and left out; the others are loaded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from syncline.model.values import INT32_MAX, Amount, Attributes
from syncline.services.lanes import Lanes
from syncline.services.workload import (
    CATALOG_LANE,
    PRICING_LANE,
    WAREHOUSE_LANES,
    Statement,
    Transaction,
    merged,
)

_LINES_A_STATEMENT = 200
_WAITING_STATEMENTS = 4
_LONGEST_VALUE_TOLD = 80
_AN_OBJECT = 'an object, such as {"sku": "A-1", "name": "Kettle"}'

_Text = Annotated[str | None, Field(description='text, such as "Oakwright kettle"')]
_Amount = Annotated[
    Amount, Field(ge=0, description='zero or more, at most 8 digits and 4 decimals, such as "12.90"')
]
_Moment = Annotated[
    AwareDatetime | None, Field(description='a time with its zone, such as "2026-11-27T00:00:00Z"')
]
_Count = Annotated[
    int, Field(strict=True, ge=0, le=INT32_MAX, description=f"a whole number from 0 to {INT32_MAX}")
]
_Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="three capital letters, such as EUR")]
_Warehouse = Annotated[str, Field(pattern="^[^:]{1,64}$", description="1 to 64 characters without a colon")]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Price(_Line):
    list_amount: _Amount
    sale_amount: _Amount | None = None
    valid_from: _Moment = None
    valid_to: _Moment = None


class _Stock(_Line):
    on_hand: _Count
    reserved: _Count = 0


class _Product(_Line):
    sku: Annotated[str, Field(min_length=1, max_length=128, description="text of 1 to 128 characters")]
    name: _Text = None
    description: _Text = None
    brand: _Text = None
    category: _Text = None
    attributes: Annotated[
        Attributes | None, Field(description='an object, such as {"color": "moss"}; numbers within 64 bits')
    ] = None
    tags: Annotated[list[str] | None, Field(description='a list of texts, such as ["led", "office"]')] = None
    status: _Text = None
    prices: Annotated[
        dict[_Currency, _Price], Field(description='an object, such as {"EUR": {"list_amount": "12.90"}}')
    ] = {}
    stock: Annotated[
        dict[_Warehouse, _Stock],
        Field(description='an object, such as {"W1": {"on_hand": 5, "reserved": 0}}'),
    ] = {}


@dataclass(frozen=True)
class Problem:
    """Why a line is not loaded."""

    line: int
    field: str
    value: str
    right: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.field}: {self.value}; right would be {self.right}"


@dataclass(frozen=True)
class Loaded:
    """What came of a file."""

    products: int
    bad_lines: int
    changes_by_kind: Mapping[tuple[str, str], int]


def load(path: Path, dsns: Mapping[str, str], on_problem: Callable[[Problem], None]) -> Loaded:
    """Load the good lines, in the order of the file; each replaces what there is under its key."""
    products = bad_lines = 0
    with path.open("rb") as lines, Lanes(dsns, _WAITING_STATEMENTS) as lanes:
        chunk: dict[str, list[Transaction]] = {}
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not text:
                continue
            product, problems = check_line(number, text)
            for problem in problems:
                on_problem(problem)
            if product is None:
                bad_lines += 1
                continue
            products += 1
            if product["sku"] in chunk or len(chunk) == _LINES_A_STATEMENT:
                _put(lanes, chunk)
                chunk = {}
            chunk[product["sku"]] = list(_transactions(product))
        _put(lanes, chunk)
    return Loaded(products, bad_lines, dict(lanes.changes))


def check_line(number: int, text: bytes) -> tuple[dict[str, Any] | None, list[Problem]]:
    """The product of a line as plain values, or what is wrong with it."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        value = f"{_told(text.decode(errors='replace'))} is no JSON ({error})"
        return None, [Problem(number, "line", value, _AN_OBJECT)]
    problems = [
        Problem(number, field, "holds the character NUL", "text without it: Postgres cannot store it")
        for field in _fields_with_nul(given)
    ]
    try:
        product = _Product.model_validate(given)
    except ValidationError as error:
        problems += [_problem(number, dict(details)) for details in error.errors()]
        return None, problems
    return (None, problems) if problems else (product.model_dump(mode="json"), [])


def _put(lanes: Lanes, chunk: Mapping[str, Iterable[Transaction]]) -> None:
    for transaction in merged(part for transactions in chunk.values() for part in transactions):
        lanes.put(transaction)


def _transactions(product: dict[str, Any]) -> Iterator[Transaction]:
    sku, prices, stock = product["sku"], product.pop("prices"), product.pop("stock")
    yield Transaction(CATALOG_LANE, (Statement("put_product", "product", "upsert", (product,)),))
    for currency, price in prices.items():
        row = {"sku": sku, "currency": currency, **price}
        yield Transaction(PRICING_LANE, (Statement("put_price", "price", "upsert", (row,)),))
    for warehouse, counts in stock.items():
        row = {"sku": sku, "warehouse_id": warehouse, **counts}
        lane = WAREHOUSE_LANES[crc32(warehouse.encode()) % len(WAREHOUSE_LANES)]
        yield Transaction(lane, (Statement("put_stock", "stock", "upsert", (row,)),))


def _problem(line: int, details: dict[str, Any]) -> Problem:
    path = [str(step) for step in details["loc"] if step != "[key]"]
    field, value, right = ".".join(path) or "line", _told(details["input"]), _right(path)
    match details["type"]:
        case "missing":
            return Problem(line, field, "is missing", right)
        case "extra_forbidden":
            columns = ", ".join(_model_at(path[:-1]).model_fields)
            return Problem(line, field, f"{value} has no column", f"one of {columns}")
        case "model_type" | "dict_type":
            return Problem(line, field, f"{value} is no object", right)
        case _:
            return Problem(line, field, f"{value} ({details['msg']})", right)


def _right(path: list[str]) -> str:
    """What the field at this path should hold."""
    if not path:
        return _AN_OBJECT
    match path:
        case ["prices", _]:
            return f"{_Product.model_fields['prices'].description}, by currency: three capital letters"
        case ["stock", _]:
            return f"{_Product.model_fields['stock'].description}, by warehouse: 1 to 64 characters, no colon"
    fields = _model_at(path).model_fields
    field = fields.get(path[-1]) or fields.get(path[0])
    return (field and field.description) or "another value"


def _model_at(path: list[str]) -> type[_Line]:
    inner: dict[str, type[_Line]] = {"prices": _Price, "stock": _Stock}
    return inner.get(path[0], _Product) if len(path) > 1 else _Product


def _fields_with_nul(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, str) and "\0" in value:
        yield path or "line"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _fields_with_nul(key, path)
            yield from _fields_with_nul(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _fields_with_nul(item, f"{path}.{position}".lstrip("."))


def _told(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE_TOLD else f"{text[:_LONGEST_VALUE_TOLD]}..."
