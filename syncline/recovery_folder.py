"""Is the folder that Bytewax keeps snapshots in whole, and can it be written?

Bytewax says so by a panic of its engine alone, which has no class to go by: after one, this looks at it.
"""

import os
import sqlite3
import sys
from argparse import ArgumentParser
from contextlib import closing
from pathlib import Path

from syncline.model.errors import RecoveryUnusable, SynclineError, Unavailable

_PROBE_BYTES = 1024 * 1024
_WAY_OUT = "remove it, and the flow reads the log from its beginning, which costs time only: rm -r"


def check_recovery_folder(folder: Path) -> None:
    """Raises ``RecoveryUnusable`` where a part of it is missing or cannot be read."""
    parts = sorted(folder.glob("part-*.sqlite3"))
    counts: set[int] = set()
    for part in parts:
        try:
            with closing(sqlite3.connect(f"{part.resolve().as_uri()}?mode=ro", uri=True)) as database:
                [(found,)] = database.execute("PRAGMA quick_check(1)").fetchall()
                counts |= {count for (count,) in database.execute("SELECT part_count FROM parts")}
                database.execute("SELECT step_id, state_key, snap_epoch, ser_change FROM snaps LIMIT 1")
        except (sqlite3.Error, ValueError) as error:
            raise RecoveryUnusable(
                f"the recovery folder is corrupt, or of another version ({part.name}: {error}); "
                f"{_WAY_OUT} {folder}"
            ) from error
        if found != "ok":
            raise RecoveryUnusable(
                f"the recovery folder is corrupt ({part.name}: {found}); {_WAY_OUT} {folder}"
            )
    if counts != {len(parts)}:
        raise RecoveryUnusable(
            f"the recovery folder has {len(parts)} of {max(counts, default=0)} parts; {_WAY_OUT} {folder}"
        )


def check_room_in(folder: Path) -> None:
    """Raises ``Unavailable`` where the folder cannot be written."""
    probe = folder / "probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Unavailable(
            f"the recovery folder cannot be written ({error.strerror}); free some space, or move it: {folder}"
        ) from error
    finally:
        probe.unlink(missing_ok=True)


def what_is_wrong_with(folder: Path) -> SynclineError | None:
    """``None`` where it is whole and can be written."""
    try:
        check_room_in(folder)
        check_recovery_folder(folder)
    except SynclineError as error:
        return error
    return None


def own_recovery_folder() -> Path | None:
    """The one that this process was started with, as ``bytewax.run`` takes it."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-r", "--recovery-directory", default=os.environ.get("BYTEWAX_RECOVERY_DIRECTORY"))
    folder = parser.parse_known_args(sys.argv[1:])[0].recovery_directory
    return None if folder is None else Path(folder)
