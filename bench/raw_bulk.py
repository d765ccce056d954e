"""The store's own limit: the same bodies as bulk actions, with nothing but the client's helper around them.

Run in a process of its own, with the bodies read into memory beforehand, as bytes: no JSON is made, no
token is sent, and nothing is done with an answer but to look for errors.
"""

import gc
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from elasticsearch import Elasticsearch, OrjsonSerializer
from elasticsearch.helpers import parallel_bulk

from bench import fresh_process
from bench.fresh_process import Parameters
from bench.measurement import Run
from syncline.settings import Settings

Body = tuple[str, bytes]
"""A document's id and its JSON."""


class Way(NamedTuple):
    """Parameters of ``elasticsearch.helpers.parallel_bulk``."""

    thread_count: int
    chunk_size: int

    def __str__(self) -> str:
        return f"{self.thread_count} x {self.chunk_size:,}"


DEFAULT = Way(thread_count=4, chunk_size=500)
"""The helper's own."""
WAYS = (DEFAULT, Way(thread_count=2, chunk_size=1_000))


def measure(settings: Settings, index: str, bodies: Path, op_type: str, way: Way, warm_up: int) -> Run:
    """Send all bodies of the file. The time of the first ``warm_up`` does not count."""
    return fresh_process.run(
        "bench.raw_bulk",
        {
            "url": settings.elasticsearch_url.get_secret_value(),
            "index": index,
            "bodies": str(bodies),
            "op_type": op_type,
            "way": list(way),
            "warm_up": warm_up,
        },
    )


def send(client: Elasticsearch, index: str, bodies: Iterable[Body], op_type: str, way: Way) -> None:
    """Raises ``elasticsearch.helpers.BulkIndexError`` when any is not taken."""
    actions: Iterator[dict[str, Any]] = (
        {"_op_type": op_type, "_id": document_id, "_source": body} for document_id, body in bodies
    )
    answers = parallel_bulk(
        client, actions, thread_count=way.thread_count, chunk_size=way.chunk_size, index=index
    )
    deque(answers, maxlen=0)


def open_client(url: str, way: Way) -> Elasticsearch:
    return Elasticsearch(
        url,
        serializer=OrjsonSerializer(),
        request_timeout=60,
        max_retries=0,
        http_compress=False,
        connections_per_node=way.thread_count,
    )


def write_bodies(file: IO[bytes], bodies: Iterable[Body]) -> None:
    """An id and a body, a line each."""
    for document_id, body in bodies:
        file.write(b"%s\n%s\n" % (document_id.encode(), body))


def read_bodies(file: Iterable[bytes]) -> Iterator[Body]:
    lines = iter(file)
    for document_id, body in zip(lines, lines, strict=True):
        yield document_id.rstrip(b"\n").decode(), body.rstrip(b"\n")


def _measure(parameters: Parameters) -> Run:
    way = Way(*parameters["way"])
    with Path(parameters["bodies"]).open("rb") as file:
        bodies: Sequence[Body] = list(read_bodies(file))
    gc.freeze()
    index, op_type, warm_up = parameters["index"], parameters["op_type"], parameters["warm_up"]
    with open_client(parameters["url"], way) as client:
        send(client, index, bodies[:warm_up], op_type, way)
        cpu, begun = time.process_time(), time.perf_counter()
        send(client, index, islice(bodies, warm_up, None), op_type, way)
        seconds = time.perf_counter() - begun
    return {
        "way": str(way),
        "documents": len(bodies) - warm_up,
        "bytes": sum(len(body) for _, body in bodies[warm_up:]),
        "seconds": seconds,
        "client_cpu_seconds": time.process_time() - cpu,
    }


if __name__ == "__main__":
    fresh_process.answer(_measure)
