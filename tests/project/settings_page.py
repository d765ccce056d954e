"""docs/settings.md, made from the model of the settings.

Renew it with ``.venv/bin/python -m tests.project.settings_page``; a test fails while it is out of date.
"""

import json
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from syncline.settings import Settings
from tests.project import ROOT

PAGE = ROOT / "docs" / "settings.md"

INTRODUCTION = """\
# Settings

Made from `syncline/settings.py` by `tests/project/settings_page.py`: change the model, then run
`.venv/bin/python -m tests.project.settings_page`.

Each setting is an environment variable, or a line of a TOML file under its name without `SYNCLINE_`, in lower
case: `SYNCLINE_SEARCH_ALIAS=shop` is `search_alias = "shop"`. What is found first counts:

1. the environment;
2. the TOML file that `SYNCLINE_CONFIG_FILE` names, or else `syncline.toml` in the working folder;
3. the addresses that `syncline stack up` wrote for the servers that it started;
4. the default, which looks for servers on this machine and their usual ports.

A name in the TOML file that is no setting is an error. A variable that is no setting is ignored, so mind
the spelling: `syncline config check` names it, with all else that is wrong, and asks the servers.
`syncline config show` tells where each value comes from. Values are checked when a command or a flow starts.
Addresses that may hold a password ("secret") are shown as `**********` wherever settings are printed.

| variable | value | default | meaning |
| --- | --- | --- | --- |
"""

KINDS = {
    "array": "list of texts, in JSON",
    "boolean": "`true` or `false`",
    "integer": "whole number",
    "number": "number",
    "password": "address, secret",
    "object": "lists of addresses by name, in JSON, secret",
    "path": "path",
    "string": "text",
}
"""By the format in JSON Schema, or else the type."""


def render() -> str:
    shapes = Settings.model_json_schema()["properties"]
    rows = [_row(name, field, shapes[name]) for name, field in Settings.model_fields.items()]
    return INTRODUCTION + "".join(rows)


def _row(name: str, field: FieldInfo, shape: dict[str, Any]) -> str:
    variable = f"`SYNCLINE_{name.upper()}`"
    return f"| {variable} | {_value(shape)} | {_default(field.default)} | {field.description or ''} |\n"


def _value(shape: dict[str, Any]) -> str:
    shape = next((one for one in shape.get("anyOf", ()) if one["type"] != "null"), shape)
    limits = [
        f"{words} {shape[limit]}"
        for limit, words in (("minimum", "at least"), ("maximum", "at most"))
        if limit in shape
    ]
    return ", ".join([KINDS[shape.get("format", shape["type"])], *limits])


def _default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{json.dumps(value) if isinstance(value, tuple | bool | dict) else value}`"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
