"""Live products, fast: rows into the sources and documents into the index, as if the flow had been there.

Rows are copied in with the triggers off, so nothing is published; documents are made by the flow's own
code (``documents``) of the same rows and versions, and sent in bulk. Both sides then agree, and the next
change of any product is an ordinary update.
"""

from collections.abc import Callable, Iterable, Mapping

from psycopg import sql
from psycopg.types.json import Jsonb

from bench.documents import Documents
from bench.goods import Goods
from bench.ledger import Committed
from bench.raw_bulk import DEFAULT, Body, open_client, send
from syncline.postgres import Connection, connect
from syncline.provision import search_index_name
from syncline.settings import Settings

_CHUNK = 2_000

_TABLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "product": (
        "products",
        ("sku", "name", "description", "brand", "category", "attributes", "tags", "status", "updated_at"),
    ),
    "price": (
        "prices",
        ("sku", "currency", "list_amount", "sale_amount", "valid_from", "valid_to", "updated_at"),
    ),
    "stock": ("stock", ("warehouse_id", "sku", "on_hand", "reserved", "updated_at")),
}
"""By entity: its table, and the columns to copy, to which the version is added."""


class Loader:
    """Loads into one place, more and more."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.products = 0
        self._settings = settings
        self._goods = Goods(seed, keeps_rows=False)
        self._documents = Documents(settings.topic_prefix)

    def load(self, products: int, on_progress: Callable[[int], None]) -> None:
        """Load more, until there are so many."""
        url = self._settings.elasticsearch_url.get_secret_value()
        with (
            connect(self._settings.postgres_dsn.get_secret_value()) as connection,
            open_client(url, DEFAULT) as client,
        ):
            connection.execute("SET session_replication_role = replica")
            while self.products < products:
                count = min(_CHUNK, products - self.products)
                launches = [self._goods.launch() for _ in range(count)]
                _copy(connection, [change for launch in launches for change in launch])
                bodies: Iterable[Body] = (self._documents.new(launch) for launch in launches)
                send(client, search_index_name(self._settings), bodies, "create", DEFAULT)
                self.products += count
                on_progress(self.products)
            for schema, version in self._goods.ledger.versions.items():
                connection.execute("SELECT setval(%s::regclass, %s)", (f"{schema}.versions", version))
            connection.execute("ANALYZE")
            client.indices.refresh(index=search_index_name(self._settings))


def _copy(connection: Connection, changes: Iterable[Committed]) -> None:
    by_entity: dict[str, list[Committed]] = {}
    for change in changes:
        by_entity.setdefault(change.policy.type, []).append(change)
    for entity, of_entity in by_entity.items():
        table, columns = _TABLES[entity]
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(of_entity[0].policy.owner, table),
            sql.SQL(", ").join(map(sql.Identifier, (*columns, "version"))),
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for change in of_entity:
                copy.write_row([*(_plain(change.row[column]) for column in columns), change.version])


def _plain(value: object) -> object:
    return Jsonb(value) if isinstance(value, dict) else value
