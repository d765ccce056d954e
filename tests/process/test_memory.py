"""How a flow's process uses memory."""

import platform
import subprocess
import sys

import pytest

_ARENAS_OF_EIGHT_THREADS = """
import ctypes, sys, threading
from syncline.memory import share_arenas

if sys.argv[1] == "shared":
    share_arenas()
allocated = threading.Barrier(8)

def allocate():
    kept = bytes(100_000)
    allocated.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
out = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
@pytest.mark.parametrize("how", ["shared", "one each"])
def test_threads_share_few_arenas(how: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _ARENAS_OF_EIGHT_THREADS, how], capture_output=True, text=True, check=True
    ).stdout
    assert (told.count("<heap nr=") <= 2) == (how == "shared")
