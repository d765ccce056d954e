"""Where a battle takes place: servers of the suite's own, and a proxy before each for the flows."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from syncline.settings import Settings
from syncline.stack.kafka import Kafka
from syncline.stack.ports import LOOPBACK
from syncline.stack.progress import Progress, Silent
from syncline.stack.stack import Stack
from tests.chaos.proxy import Proxies, Proxy
from tests.chaos.schedule import SERVERS
from tests.own import but


class ProxiedKafka(Kafka):
    """Kafka tells its clients where to find it; those who come by the proxy are sent there again."""

    port_names = ("port", "controller", "behind_proxy")  # type: ignore[assignment]
    advertised_port = 0

    def _configuration(self) -> dict[str, object]:
        usual, port = super()._configuration(), self.ports["behind_proxy"]
        return {
            **usual,
            "listeners": f"{usual['listeners']},PROXIED://{LOOPBACK}:{port}",
            "advertised.listeners": (
                f"{usual['advertised.listeners']},PROXIED://{LOOPBACK}:{self.advertised_port}"
            ),
            "listener.security.protocol.map": (
                f"{usual['listener.security.protocol.map']},PROXIED:PLAINTEXT"
            ),
            "inter.broker.listener.name": "PLAINTEXT",
        }


class Ground(NamedTuple):
    stack: Stack
    proxies: dict[str, Proxy]
    """By server."""

    @property
    def settings(self) -> Settings:
        """The servers, straight."""
        return Settings(home=self.stack.home, **self.stack.addresses())

    def proxied(self, settings: Settings) -> Settings:
        """The same, by way of the proxies."""
        dsn, redis_url, elasticsearch_url = (
            secret.get_secret_value()
            for secret in (settings.postgres_dsn, settings.redis_url, settings.elasticsearch_url)
        )
        ports = {server: proxy.port for server, proxy in self.proxies.items()}
        old = {server: self.stack.servers[server].ports["port"] for server in SERVERS}

        def by_proxy(address: str, server: str) -> str:
            return address.replace(str(old[server]), str(ports[server]))

        return but(
            settings,
            postgres_dsn=by_proxy(dsn, "postgres"),
            redis_url=by_proxy(redis_url, "redis"),
            elasticsearch_url=by_proxy(elasticsearch_url, "elasticsearch"),
            kafka_bootstrap_servers=f"{LOOPBACK}:{ports['kafka']}",
        )

    def kill(self, server: str) -> None:
        self.stack.servers[server].kill()

    def start(self, server: str) -> None:
        # Not by the stack, which starts one at a time.
        self.stack.servers[server].start(Silent())

    @contextmanager
    def paused(self, server: str) -> Iterator[None]:
        stopped = self.stack.servers[server].processes.all()
        _send(stopped, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(stopped, signal.SIGCONT)


def _send(processes: list[psutil.Process], signal_number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal_number)


@contextmanager
def ground(home: Path, progress: Progress) -> Iterator[Ground]:
    stack = Stack(home)
    kafka = ProxiedKafka(stack.servers["kafka"].folder)
    stack.servers["kafka"] = kafka
    with Proxies() as proxies:
        made = {
            server: proxies.to(
                lambda server=server: stack.servers[server].ports[  # type: ignore[misc]
                    "behind_proxy" if server == "kafka" else "port"
                ]
            )
            for server in SERVERS
        }
        kafka.advertised_port = made["kafka"].port
        with stack.while_this_process_lives(progress):
            yield Ground(stack, made)
