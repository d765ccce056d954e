"""Every import arrow points the way that docs/architecture.md says: towards the model, never back."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("dataflows", "sources", "operators", "sinks", "syncline", "bench")

MODEL = {"syncline.model"}
POLICIES = {"syncline.policies"} | MODEL
TOOLS = {
    "syncline.clock",
    "syncline.stopping",
    "syncline.circuit",
    "syncline.asking",
    "syncline.room",
    "syncline.jitter",
} | MODEL
"""What any part of the data path may use: no settings, no servers."""
SERVERS = {
    "syncline.postgres",
    "syncline.kafka",
    "syncline.elasticsearch",
    "syncline.redis_contact",
    "syncline.statements",
}
"""What servers are asked, and how what they answer is told by class; operators know no server."""
DATA_PATH = {"dataflows", "sources", "operators", "sinks"} | SERVERS | POLICIES | TOOLS
OF_A_RUN = {"syncline.last_words", "syncline.isolation", "syncline.recovery_folder"}
"""What a process knows of whoever keeps it alive."""
AROUND_A_FLOW = {"syncline.settings", "syncline.health", "syncline.process"} | OF_A_RUN
ANYTHING = {"syncline", *ROOMS}

ALLOWED: dict[str, set[str]] = {
    "syncline.model": MODEL,
    "syncline.policies": POLICIES,
    "syncline.clock": set(),
    "syncline.stopping": set(),
    "syncline.room": set(),
    "syncline.jitter": set(),
    "syncline.statements": set(),
    "syncline.settings": MODEL,
    "syncline.circuit": TOOLS,
    "syncline.asking": TOOLS,
    "syncline.health": MODEL,
    "syncline.postgres": MODEL,
    "syncline.kafka": MODEL,
    "syncline.elasticsearch": MODEL,
    "syncline.last_words": MODEL,
    "syncline.recovery_folder": MODEL,
    "syncline.redis_contact": MODEL | {"syncline.circuit"},
    "syncline.cache_scripts": set(),
    # Services embed it: of Syncline it brings in as little as it can.
    "syncline.reads": {"syncline.cache_scripts", "syncline.redis_contact"} | TOOLS,
    "syncline.isolation": MODEL | {"syncline.last_words"},
    "syncline.process": AROUND_A_FLOW | TOOLS,
    # Stores are known to operators by the model's protocol alone.
    "operators": {"operators"} | POLICIES | TOOLS,
    "sources": {"sources"} | {"syncline.isolation"} | SERVERS | POLICIES | TOOLS,
    "sinks": {"sinks"} | SERVERS | POLICIES | TOOLS,
    "dataflows": DATA_PATH | AROUND_A_FLOW,
    # Around the data path, which knows nothing of them.
    "syncline.provision": (DATA_PATH - {"dataflows"}) | {"syncline.settings", "syncline.recovery_folder"},
    "syncline.console": ANYTHING,
    "syncline.flow_processes": ANYTHING - {"bench"},
    "syncline.supervisor": ANYTHING - {"bench"},
    "syncline.monitor": ANYTHING - {"bench"},
    "syncline.services": ANYTHING - {"bench"},
    "syncline.stack": ANYTHING - {"bench"},
    "bench": ANYTHING,
}
"""By room: the rooms that it may import. ``syncline`` stands for all of the package."""


def modules(room: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    """All that a module imports, even inside functions and under ``TYPE_CHECKING``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    first, _, rest = module.partition(".")
    return f"syncline.{rest.partition('.')[0]}" if first == "syncline" and rest else first


ALL_MODULES = [(module, path) for room in ROOMS for module, path in modules(room)]


@pytest.mark.parametrize(("module", "path"), ALL_MODULES, ids=[module for module, _ in ALL_MODULES])
def test_no_import_points_back(module: str, path: Path) -> None:
    room = room_of(module)
    if room == "syncline":
        return
    assert room in ALLOWED, f"{room} is new: say in this test what it may import"
    own = {imported for imported in imports(path) if imported.partition(".")[0] in ROOMS}
    allowed = ALLOWED[room]
    wrong = {
        imported
        for imported in own
        if room_of(imported) not in allowed
        and not ("syncline" in allowed and imported.startswith("syncline."))
    }
    assert not wrong


@pytest.mark.parametrize(
    "module", [module for module, _ in ALL_MODULES if room_of(module) == "syncline.model"]
)
def test_the_model_does_no_input_or_output(module: str) -> None:
    path = dict(ALL_MODULES)[module]
    servers = {"elasticsearch", "psycopg", "redis", "confluent_kafka", "bytewax", "socket", "threading"}

    assert not {imported.partition(".")[0] for imported in imports(path)} & servers


def test_production_code_knows_nothing_of_its_tests() -> None:
    wrong = {
        module
        for module, path in ALL_MODULES
        for imported in imports(path)
        if imported.partition(".")[0] in {"tests", "pytest", "hypothesis"}
        or imported.startswith(("unittest", "bytewax.testing"))
    }

    assert {module for module in wrong if not module.startswith("bench")} == set()


WATCH = """
import json, os, signal, socket, sys, threading

def no_connection(*args):
    raise AssertionError(f"a connection was opened: {args[1:]}")

def open_sockets():
    links = {os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)}
    return {link for link in links if link.startswith("socket:")}

def handlers():
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

socket.socket.connect = socket.socket.connect_ex = no_connection
before = open_sockets(), handlers()
__import__(sys.argv[1])
print(json.dumps({
    "python_threads": threading.active_count(),
    "all_threads": len(os.listdir("/proc/self/task")),
    "sockets_and_handlers_as_before": before == (open_sockets(), handlers()),
}))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux tells them")
@pytest.mark.parametrize("module", [module for module, _ in modules("dataflows") if "." in module])
def test_importing_a_flow_opens_no_connection_and_starts_nothing(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, module],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "SYNCLINE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == {"python_threads": 1, "all_threads": 1, "sockets_and_handlers_as_before": True}
    assert list(tmp_path.iterdir()) == []
    assert done.stderr == ""
