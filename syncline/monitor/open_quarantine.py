"""What waits in quarantine or in retries, as an explanation of what a copy does not show."""

import json
from collections import defaultdict
from collections.abc import Sequence

import psycopg

from syncline.model.version import OpRank
from syncline.monitor import sql
from syncline.postgres import connect, raise_typed
from syncline.statements import statement


class OpenQuarantine:
    """The entities and versions of what waits, and of what was corrected."""

    def __init__(self) -> None:
        self._versions: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        self._corrected: set[tuple[str, int]] = set()

    def add(self, entity: str, version: int, op_rank: int) -> None:
        self._versions[entity].add((version, op_rank))

    def add_corrected(self, entity: str, version: int) -> None:
        self._corrected.add((entity, version))

    def has_corrected(self, entity: str, version: int) -> bool:
        """Whether a person says something else of this version than its owner."""
        return (entity, version) in self._corrected

    def has_any(self, entity: str) -> bool:
        return entity in self._versions

    def has_upsert(self, entity: str, version: int) -> bool:
        return (version, OpRank.UPSERT) in self._versions.get(entity, ())

    def has_delete_from(self, entity: str, version: int) -> bool:
        """Whether a delete of this version or a later one waits."""
        return any(
            op_rank == OpRank.DELETE and waiting >= version
            for waiting, op_rank in self._versions.get(entity, ())
        )


def read_open_quarantine(dsn: str, flows: Sequence[str]) -> OpenQuarantine:
    """What waits on the road of these flows now."""
    quarantine = OpenQuarantine()
    try:
        with connect(dsn, "syncline-verify") as connection:
            found = connection.execute(statement(sql, "quarantine_open"), {"flows": list(flows)})
            for entity, version, op_rank, message_value, waits, is_corrected in found:
                if is_corrected:
                    quarantine.add_corrected(entity, version)
                if waits and entity is not None:
                    quarantine.add(entity, version, op_rank)
                elif message_value is not None and (claimed := claim(message_value)) is not None:
                    quarantine.add(*claimed)
    except psycopg.Error as error:
        raise_typed(error, "reading sync.quarantine")
    return quarantine


def claim(message_value: bytes) -> tuple[str, int, int] | None:
    """What a message that was never decoded says of itself, where it is JSON after all."""
    try:
        payload = json.loads(message_value, parse_int=str, parse_float=str)
        op_rank = OpRank.DELETE if payload["op"] == "delete" else OpRank.UPSERT
        return str(payload["entity"]), int(payload["version"]), op_rank
    except (ValueError, KeyError, TypeError):
        return None
