"""Syncline's own policies without their rules: those of a console that has older ones than the flow."""

from importlib import resources
from pathlib import Path

from syncline import policies


def without_rules(folder: Path) -> Path:
    """The folder, with the policies in it; the rules stand last in each file."""
    for file in resources.files(policies).iterdir():
        if file.name.endswith(".toml"):
            (folder / file.name).write_text(file.read_text().partition("[[rules]]")[0])
    return folder
