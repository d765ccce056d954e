"""What the settings of this process are, where each comes from, and what is wrong with them."""

import json
import os
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_settings import SettingsError

from syncline.settings import Settings, settings_files

PREFIX = "SYNCLINE_"
DEFAULT = "default"
NOT_IN_THE_MODEL = {"SYNCLINE_CONFIG_FILE"}


class EffectiveSetting(NamedTuple):
    name: str
    value: str
    """As JSON, with secrets masked."""
    place: str
    """The variable or the file that it was found in, or ``default``."""


class Fault(NamedTuple):
    place: str
    problem: str


def effective_settings(settings: Settings) -> list[EffectiveSetting]:
    """Every setting of those that were loaded just now."""
    places = _places()
    values = settings.model_dump(mode="json")
    return [
        EffectiveSetting(name, json.dumps(value), places.get(name, DEFAULT)) for name, value in values.items()
    ]


def settings_faults() -> list[Fault]:
    """Every setting that is unknown or wrong, and no value of any: it may be a secret."""
    faults = [
        Fault(variable, _unknown(variable, {PREFIX + name.upper() for name in Settings.model_fields}))
        for variable in sorted(os.environ)
        if variable.startswith(PREFIX)
        and variable.removeprefix(PREFIX).lower() not in Settings.model_fields
        and variable not in NOT_IN_THE_MODEL
    ]
    if unreadable := [fault for file in settings_files() if (fault := _toml_fault(file))]:
        return faults + unreadable
    try:
        Settings()
    except SettingsError as error:
        faults.append(Fault("environment", f"{error}; it must be JSON"))
    except ValidationError as error:
        places = _places()
        details = error.errors(include_url=False, include_input=False)
        faults += [_fault(detail, places) for detail in details]
    return faults


def _fault(detail: Mapping[str, Any], places: Mapping[str, str]) -> Fault:
    name = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return Fault(places.get(name, DEFAULT), _unknown(name, Settings.model_fields))
    return Fault(places.get(str(detail["loc"][0]), DEFAULT), f"{name}: {detail['msg']}")


def _unknown(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else "")


def _toml_fault(file: Path) -> Fault | None:
    try:
        _names(file)
    except tomllib.TOMLDecodeError as error:
        return Fault(str(file), f"this is not TOML: {error}")
    return None


def _names(file: Path) -> Collection[str]:
    """Of the settings in the file; none where there is no file."""
    return tomllib.loads(file.read_text(encoding="utf-8")).keys() if file.exists() else ()


def _places() -> dict[str, str]:
    """By name: where the setting's value is found first."""
    places: dict[str, str] = {}
    for file in reversed(settings_files()):
        places.update(dict.fromkeys(_names(file), str(file)))
    for name in Settings.model_fields:
        if (variable := PREFIX + name.upper()) in os.environ:
            places[name] = variable
    return places
