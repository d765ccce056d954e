"""What a source table says of each document, asked in SQL that is made of the policies.

The parts are put into the document's form by the database, so nothing that the flow's code gets wrong can be
wrong here in the same way.
"""

from collections.abc import Iterator

import orjson
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from syncline.model.change import Op
from syncline.model.errors import NotPossible
from syncline.policies.columns import ColumnType
from syncline.policies.documents import DOCUMENTS
from syncline.policies.policy_file import Condition, FieldSection, PolicyFile

_TRANSFORMS = {
    "as_is": SQL("{column}"),
    "e4": SQL("trim_scale({column} * 10000)"),
    "lower": SQL("lower({column})"),
    "trim": SQL("btrim({column})"),
    "utc": SQL(
        "CASE WHEN {column} >= '0001-01-01 00:00:00+00' AND {column} < '10000-01-01 00:00:00+00'"
        " THEN to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        " WHEN isfinite({column}) THEN {column}::text END"
    ),
}


def part_query(file: PolicyFile, flow: str) -> Composed:
    """Rows of (document's id, {slot: [version, fields]} as JSON), in the byte order of the ids.

    The slot is ``""`` where a document has one of the entity. The fields are null where the flow does not
    want the row. The parameter ``skus`` bounds it to some documents; null is all.

    Raises ``NotPossible`` where SQL cannot tell: of fields that are made by Python, and of what is kept
    although its row was deleted.
    """
    document = SQL('{}::text COLLATE "C"').format(Identifier(file.source.document))
    if Op.DELETE not in file.flows[flow].operations:
        raise NotPossible(f"{flow} keeps what {file.owner} deleted, and no source says what that must be")
    fields = SQL("json_build_object({})").format(SQL(", ").join(_fields(file, flow)))
    if conditions := file.flows[flow].where:
        wanted = SQL(" AND ").join(map(_condition, conditions))
        fields = SQL("CASE WHEN {} THEN {} END").format(wanted, fields)
    body = SQL("json_build_array(version, {})").format(fields)
    slot = file.source.slot
    if slot is None:
        parts, grouping = SQL("json_build_object('', {})").format(body), SQL("")
    else:
        parts = SQL("json_object_agg({}, {})").format(_slot(file, slot), body)
        grouping = SQL("GROUP BY 1")
    return SQL(
        "SELECT {document} AS id, {parts}::text FROM {table}"
        " WHERE %(skus)s::text[] IS NULL OR {document} = ANY (%(skus)s) {grouping} ORDER BY 1"
    ).format(
        document=document,
        parts=parts,
        table=Identifier(*file.source.table.split(".")),
        grouping=grouping,
    )


def _fields(file: PolicyFile, flow: str) -> Iterator[Composable]:
    fields = file.flows[flow].fields
    for name in DOCUMENTS[flow][file.entity].fields:
        field = fields.get(name)
        value = SQL("NULL") if field is None else _value(file, name, field)
        yield SQL("{}, {}").format(Literal(name), value)


def _value(file: PolicyFile, name: str, field: FieldSection) -> Composable:
    if field.python is not None:
        raise NotPossible(
            f"{file.entity}: {name} is made by {field.python}, and SQL cannot tell what that makes; "
            "no copy with such a field can be verified"
        )
    return _TRANSFORMS[field.transform].format(column=Identifier(field.from_))


def _slot(file: PolicyFile, column: str) -> Composable:
    kind = ColumnType.parse(file.columns[column].type)
    if kind.name == "char(n)":
        # As text it would lose its blanks, which are part of the entity's id.
        return SQL("rpad({}, {})").format(Identifier(column), Literal(kind.parameters[0]))
    return SQL("{}::text").format(Identifier(column))


def _condition(condition: Condition) -> Composable:
    column = Identifier(condition.column)
    if condition.present is not None:
        return SQL("{} IS NOT NULL" if condition.present else "{} IS NULL").format(column)
    # A per cent sign in the statement would be taken for a parameter.
    values = orjson.dumps(condition.one_of or condition.none_of).decode().replace("%", "\\u0025")
    members = SQL("{}::jsonb").format(Literal(values))
    is_among = SQL("({column} IS NOT NULL AND {members} @> jsonb_build_array({column}))").format(
        column=column, members=members
    )
    return is_among if condition.one_of is not None else SQL("NOT {}").format(is_among)
