"""Starting programs that refuse to run as root.

PostgreSQL and Elasticsearch refuse user id 0. Where this process is root, the program is started
1. in a user namespace that shows it another user id (``unshare``), which needs no account and changes no
   file's owner; or, where a container forbids that,
2. as an unprivileged account that keeps the one capability to pass folders it does not own (``setpriv``
   with an ambient ``CAP_DAC_OVERRIDE``, capabilities(7)), with its data folder handed over to it.

Both are programs of util-linux, which every Debian, Ubuntu, Fedora and SUSE has.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from syncline.model.errors import ServerDidNotStart


@dataclass(frozen=True)
class Privileges:
    """How to start a program: the words to put before its command, and who then owns its files."""

    prefix: tuple[str, ...]
    owner: int

    def hand_over(self, folder: Path) -> None:
        """Give ``folder`` and all in it to the owner, if root made it or an earlier way owned it."""
        if os.geteuid() == 0 and folder.stat().st_uid != self.owner:
            for path in folder.rglob("*"):
                os.chown(path, self.owner, -1, follow_symlinks=False)
            os.chown(folder, self.owner, -1)


AS_WE_ARE = Privileges(prefix=(), owner=os.geteuid())


def in_user_namespace(user: int) -> Privileges:
    """Outside the namespace root stays the owner of the files."""
    return Privileges(("unshare", "--user", f"--map-user={user}", f"--map-group={user}"), owner=0)


def as_account(user: int) -> Privileges:
    ids = (f"--reuid={user}", f"--regid={user}", "--clear-groups")
    # access(2), which Java asks, ignores the capabilities of a non-root user unless this bit is set.
    capability = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup")
    return Privileges(("setpriv", *ids, *capability), owner=user)


@cache
def without_root() -> Privileges:
    """The first way that works here to run a program as another user than root."""
    if os.geteuid() != 0:
        return AS_WE_ARE
    ways = (in_user_namespace(_ordinary_user()), as_account(_ordinary_user()))
    for way in ways:
        if _works(way):
            return way
    raise ServerDidNotStart(
        "PostgreSQL and Elasticsearch refuse to run as root, and neither `unshare --user` nor `setpriv` "
        "works here. Run this command as an ordinary user."
    )


def _ordinary_user() -> int:
    """An account that exists, since initdb looks up its name; nobody's, where there is one."""
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return next((entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0), 1000)


def _works(way: Privileges) -> bool:
    try:
        tried = subprocess.run(
            [*way.prefix, "id", "-u"], capture_output=True, text=True, timeout=10, check=False
        )
    except OSError:
        return False
    return tried.returncode == 0 and tried.stdout.strip() != "0"
