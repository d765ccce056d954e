"""How a flow's process uses memory: what Python and C do by themselves suits other programs."""

import ctypes
import gc

_M_ARENA_MAX = -8
_ARENAS = 2


def collect_garbage_seldom() -> None:
    """A batch makes hundreds of thousands of small objects, and hardly a cycle among them: with the default
    thresholds looking for one took a fifth of the flow's time. Batches under way hold less than this one."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 100)


def share_arenas() -> None:
    """To be called before there are threads. Each would get an arena of its own from glibc, which keeps what
    is freed: the answers of a store that catches up came to 15 MiB more. Other C libraries have none.

    Source: mallopt(3), ``M_ARENA_MAX``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
