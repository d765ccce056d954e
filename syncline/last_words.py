"""What a process says at its end, for whoever started it: why, in one line, and of what kind that is.

Whoever starts a process may give it a folder of its own (``SYNCLINE_RUN_FOLDER``). A process without one
keeps silent, and one that is killed has no time to speak.
"""

import os
import traceback
from enum import IntEnum
from pathlib import Path

import bytewax.run
from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from syncline.model.errors import FatalError, SynclineError

RUN_FOLDER = "SYNCLINE_RUN_FOLDER"
_FILE = "last_words.json"


class Cause(IntEnum):
    """What ended a process. Of several processes the lowest explains the others."""

    OURS = 0
    """An error of Syncline's own tree."""
    STEP = 1
    """An exception in the code of a step, which is a bug."""
    SIGNAL = 2
    ENGINE = 3
    """Bytewax itself: it lost a peer, or its recovery folder."""
    TOLD = 4
    """A signal by which processes are told to end."""


class LastWords(Struct, frozen=True):
    """``error`` begins with the name of its class. ``is_fatal`` where only a person can mend it.
    ``is_spoken`` by the process itself, which then left a record too, and not said of it by another."""

    error: str
    cause: Cause
    is_fatal: bool = False
    is_spoken: bool = True

    @property
    def may_be_a_change(self) -> bool:
        """Whether something that was read may have caused it."""
        return self.cause in {Cause.STEP, Cause.SIGNAL}


_decoder = Decoder(LastWords)


def words_of(error: BaseException) -> LastWords:
    return LastWords(
        f"{type(error).__name__}: {error}", cause_of(error), is_fatal=isinstance(error, FatalError)
    )


def cause_of(error: BaseException) -> Cause:
    if isinstance(error, SynclineError):
        return Cause.OURS
    frames = traceback.extract_tb(error.__traceback__)
    # What the engine raises has no code of a step on its way.
    return Cause.STEP if frames and frames[-1].filename != bytewax.run.__file__ else Cause.ENGINE


def own_run_folder() -> Path | None:
    """The folder that this process was given."""
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder) if folder else None


def leave(error: BaseException) -> None:
    """Leave word of the error that ends this process. Raises ``OSError`` where the folder takes none."""
    folder = own_run_folder()
    if folder is not None:
        (folder / _FILE).write_bytes(encode(words_of(error)))


def heard(folder: Path) -> LastWords | None:
    """The last words of the process that had the folder; ``None`` where it left none, or not whole."""
    try:
        return _decoder.decode((folder / _FILE).read_bytes())
    except (FileNotFoundError, DecodeError):
        return None


def forget(folder: Path) -> None:
    """Make room for the words of another process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).unlink(missing_ok=True)
