"""Reading the next chunk while the last one is worked on."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(chunks: Iterable[Iterable[T]]) -> Iterator[T]:
    """The items of all chunks, in order. One chunk is held beyond the one that is given out."""
    iterator = iter(chunks)
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        following = thread.submit(next, iterator, None)
        while (chunk := following.result()) is not None:
            following = thread.submit(next, iterator, None)
            yield from chunk
