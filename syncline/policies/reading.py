"""Reading a folder of policy files: either all of it makes sense, or all that is wrong with it is told."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from syncline import policies as package
from syncline.model.errors import Misconfigured
from syncline.policies.coherence import check_all, check_one
from syncline.policies.faults import Fault, of_the_form
from syncline.policies.policies import Policies
from syncline.policies.policy_file import (
    ColumnSection,
    Condition,
    FieldOwnership,
    FieldSection,
    FlowSection,
    PolicyFile,
    RuleSection,
    SourceSection,
)
from syncline.policies.toml_lines import Path as Keys
from syncline.policies.toml_lines import line_of, lines_by_path

_LINE = re.compile(r"\(at line (\d+), column \d+\)")

_SECTIONS: Sequence[tuple[tuple[str | None, ...], type[BaseModel]]] = (
    ((), PolicyFile),
    (("source",), SourceSection),
    (("columns", None), ColumnSection),
    (("flows", None), FlowSection),
    (("flows", None, "where", None), Condition),
    (("flows", None, "fields", None), FieldSection),
    (("rules", None), RuleSection),
    (("fields", None), FieldOwnership),
)
"""Where a file has which section; ``None`` stands for any name or number."""


class _Read(NamedTuple):
    name: str
    lines: Mapping[Keys, int]
    policy: PolicyFile | None
    """``None`` where too much is wrong to make anything of it."""
    faults: list[Fault]
    unsure: frozenset[str] = frozenset()
    """Columns and fields that were left out because something is wrong with them."""

    def fault(self, keys: Keys, message: str) -> Fault:
        return Fault(self.name, line_of(self.lines, keys), ".".join(map(str, keys)), message)


def faults_of(folder: Path | None) -> list[Fault]:
    """All that is wrong with the files of a folder, in order; ``None`` stands for Syncline's own folder."""
    return _read(folder)[1]


@cache
def load_policies(folder: Path | None = None) -> Policies:
    """The policies of a folder, or Syncline's own. Raises ``Misconfigured``, which tells all faults."""
    files, faults = _read(folder)
    if faults:
        raise Misconfigured("\n".join(["the policies cannot be used:", *map(str, faults)]))
    return Policies(tuple(files))


def _read(folder: Path | None) -> tuple[list[PolicyFile], list[Fault]]:
    place: Traversable = resources.files(package) if folder is None else folder
    if not place.is_dir():
        raise Misconfigured(f"policies_dir: there is no folder {folder}")
    files = sorted(
        (file for file in place.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name
    )
    if not files:
        raise Misconfigured(f"policies_dir: {folder} holds no .toml file, and so no policy")
    read = [_read_one(file.name, file.read_text(encoding="utf-8")) for file in files]
    there = [each for each in read if each.policy is not None]
    faults = [fault for each in read for fault in each.faults]
    known = {each.name: each.policy for each in there if each.policy is not None}
    for each in there:
        if each.policy is not None:
            faults += [each.fault(keys, message) for keys, message in check_one(each.policy, each.unsure)]
    by_name = {each.name: each for each in there}
    faults += [by_name[name].fault(keys, message) for name, keys, message in check_all(known)]
    return list(known.values()), sorted(set(faults))


def _read_one(name: str, text: str) -> _Read:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _LINE.search(str(error))
        line = int(place[1]) if place else len(text.splitlines())
        return _Read(name, {}, None, [Fault(name, line, "", f"this is not TOML: {error}")])
    read = _Read(name, lines_by_path(text), None, [])
    unsure: set[str] = set()
    while True:
        try:
            return read._replace(policy=PolicyFile.model_validate(raw), unsure=frozenset(unsure))
        except ValidationError as error:
            wrong = [(_keys(detail["loc"]), detail) for detail in error.errors(include_url=False)]
        read.faults.extend(
            read.fault(keys, of_the_form(detail, _keys_of_section(keys[:-1]))) for keys, detail in wrong
        )
        # What is right about the file is checked too, so that one run tells all.
        for keys, detail in wrong:
            if detail["type"] == "extra_forbidden":
                del _holder(raw, keys)[keys[-1]]
            elif not _take_out(raw, keys, unsure):
                return read


def _keys(location: tuple[int | str, ...]) -> Keys:
    return tuple(key for key in location if key != "[key]")


def _holder(raw: dict[str, Any], keys: Keys) -> Any:  # noqa: ANN401 - as the parser gives it
    holder: Any = raw
    for key in keys[:-1]:
        holder = holder[key]
    return holder


def _take_out(raw: dict[str, Any], keys: Keys, unsure: set[str]) -> bool:
    """Take out the thing in which something is wrong; ``False`` where nothing is left without it.

    The names of columns and fields go to ``unsure``: what others say of them is not to be blamed.
    """
    thing = next((keys[: len(path)] for path in _THINGS if _is_at(path, keys)), keys)
    if not thing:
        return False
    holder, last = _holder(raw, thing), thing[-1]
    if isinstance(holder, list):
        # Others are numbered by their place: one that is always right stands in.
        holder[int(last)] = _STAND_INS[str(thing[-2])]
    elif len(thing) == 1 and last in _STAND_INS:
        holder[last] = _STAND_INS[str(last)]
    elif last in holder and thing not in _NEEDED:
        del holder[last]
        unsure.add(str(last))
    else:
        return False
    return True


def _is_at(path: tuple[str | None, ...], keys: Keys) -> bool:
    return len(keys) >= len(path) and all(
        name is None or name == key for name, key in zip(path, keys, strict=False)
    )


_THINGS: Sequence[tuple[str | None, ...]] = (
    ("flows", None, "fields", None),
    ("flows", None, "where", None),
    ("flows", None, "operations"),
    ("columns", None),
    ("rules", None),
    ("fields", None),
    ("source", None),
)
"""What can be left out as a whole."""
_STAND_INS: Mapping[str, Any] = {
    "rules": {"python": "builtins:bool"},
    "where": {"column": "", "present": True},
    "criticality": "normal",
    "strategy": "last_write_wins",
    "notify": [],
}
_NEEDED = {("source", "table"), ("source", "document"), ("entity",), ("owner",), ("columns",), ("source",)}


def _keys_of_section(keys: Keys) -> list[str]:
    for pattern, model in _SECTIONS:
        if len(pattern) == len(keys) and all(
            expected in (None, key) for expected, key in zip(pattern, keys, strict=True)
        ):
            return [field.alias or name for name, field in model.model_fields.items()]
    return []
