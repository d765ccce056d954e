"""Apache Kafka, one node in KRaft mode, on the jars of ``kafka.lock``."""

import base64
import os
import socket
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from syncline.model.errors import ServerDidNotStart
from syncline.stack import java
from syncline.stack.artifacts import fetch, read_lock
from syncline.stack.ports import LOOPBACK
from syncline.stack.progress import Progress
from syncline.stack.server import Addresses, NotReady, Server

LARGEST_MESSAGE = 8 * 1024 * 1024

JVM_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")

LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n
"""


class Kafka(Server):
    name = "kafka"
    programs = frozenset({"java"})
    port_names = ("port", "controller")

    def install(self, progress: Progress) -> None:
        self._jars = fetch(read_lock("kafka.lock"), "Kafka", progress)

    def prepare(self) -> None:
        (self.folder / "log4j2.properties").write_text(LOGGING)
        self._properties.write_text(
            "".join(f"{key}={value}\n" for key, value in self._configuration().items())
        )
        if not (self.data / "meta.properties").exists():
            self._format()

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def environment(self) -> dict[str, str]:
        return java.environment()

    def probe(self) -> None:
        # librdkafka would retry for its whole time-out, and log each refusal.
        try:
            socket.create_connection((LOOPBACK, self.ports["port"]), timeout=1).close()
        except OSError as error:
            raise NotReady(str(error)) from error
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        try:
            admin.list_topics(timeout=5)
        except KafkaException as error:
            raise NotReady(str(error)) from error

    def addresses(self) -> Addresses:
        return {"kafka_bootstrap_servers": self.address}

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _configuration(self) -> dict[str, object]:
        port, controller = self.ports["port"], self.ports["controller"]
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.data,
            "log.retention.hours": 168,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            "message.max.bytes": LARGEST_MESSAGE,
            "replica.fetch.max.bytes": LARGEST_MESSAGE,
            # Otherwise a broker that was killed is refused for 15 s (DUPLICATE_BROKER_REGISTRATION).
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
        }

    def _java(self) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [
            java.java(),
            *JVM_OPTIONS,
            *java.compiler_options(),
            logging,
            "-cp",
            os.pathsep.join(map(str, self._jars)),
        ]

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*self._java(), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        done = subprocess.run(
            [*command, "--cluster-id", "K" + cluster[1:], "--config", str(self._properties)],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            self.log.write_text(done.stdout + done.stderr)
            raise ServerDidNotStart(self._failure("its data folder could not be formatted"))
