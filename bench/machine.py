"""The machine that measures, and what else it was doing meanwhile.

Figures of a machine that others share mean little without its load: each run carries its own.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import psutil

PACKAGES = ("bytewax", "confluent-kafka", "elasticsearch", "orjson", "psycopg", "pydantic", "redis")


def describe() -> dict[str, Any]:
    """Cores, memory, and the versions of what runs in our own processes."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }


@dataclass(slots=True)
class Load:
    """The machine during one run: percentages are of all cores, our own work and the servers' included."""

    load_average_before: float = 0.0
    """Of the minute before the run: what others were doing, and our own preparation."""
    busy_percent: float = 0.0
    idle_percent: float = 0.0
    waiting_for_disk_percent: float = 0.0
    stolen_percent: float = 0.0
    """By the hypervisor, for other machines."""

    def to_plain(self) -> dict[str, float]:
        return asdict(self)


@contextmanager
def watch() -> Iterator[Load]:
    """The load within the block; complete when it is left."""
    load = Load(load_average_before=round(os.getloadavg()[0], 2))
    psutil.cpu_times_percent()
    try:
        yield load
    finally:
        # The first call began the interval, this one ends it.
        during = psutil.cpu_times_percent()
        load.idle_percent = during.idle
        load.waiting_for_disk_percent = getattr(during, "iowait", 0.0)
        load.stolen_percent = getattr(during, "steal", 0.0)
        load.busy_percent = round(100 - during.idle - load.waiting_for_disk_percent - load.stolen_percent, 1)
