"""A seed's faults, while everybody writes; then all is healed, and waited for until it is quiet."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import cast

from syncline.settings import Settings
from tests.acceptance.world import World, world
from tests.chaos.flows import ACKNOWLEDGED, ACKNOWLEDGES_FIRST
from tests.chaos.ground import Ground
from tests.chaos.kept_flow import KeptFlow
from tests.chaos.load import Load
from tests.chaos.schedule import COPIES, FLOWS, SERVERS, Fault, road_to, schedule
from tests.own import but, remove
from tests.waiting import eventually

_BESIDE_EACH_OTHER_SECONDS = 1.0
"""How long a relay that was paused runs beside the one that has taken over."""
_LONGEST_DELAY_SECONDS = 0.3
_QUIET_WITHIN = timedelta(minutes=5)
"""On a machine that has much else to do; a server may just be starting."""


@dataclass(frozen=True)
class Battle:
    """What there is to look at once it is quiet."""

    world: World
    """By the straight roads."""
    load: Load
    acknowledged: Mapping[str, Path]
    """By flow: what its store acknowledged, process by process."""
    inflicted: Sequence[Fault]
    """In the order in which they ended."""
    deaths: Sequence[str]
    """The last words of processes that ended though nobody ended them."""


@contextmanager
def battle(
    ground: Ground, home: Path, seed: int, seconds: float, *, acknowledges_first: bool = False
) -> Iterator[Battle]:
    """Have it out; the block looks at what is left."""
    with world(ground.settings, home) as straight, ExitStack() as until:
        until.callback(remove, straight.settings)
        load = Load(straight.settings, seed)
        load.set_up()
        acknowledged = {flow: home / f"{flow}.acknowledged" for flow in COPIES}
        proxied = but(ground.proxied(straight.settings), **_sizes(seed))

        def make(flow: str, settings: Settings) -> KeptFlow:
            environment = {ACKNOWLEDGED: str(acknowledged[flow])} if flow in COPIES else {}
            return KeptFlow(
                flow, settings, environment | ({ACKNOWLEDGES_FIRST: "1"} if acknowledges_first else {})
            )

        battlefield = _Battlefield(ground, proxied, make)
        with ExitStack() as running:
            for flow in battlefield.flows.values():
                running.enter_context(flow.running())
            for name in COPIES:
                straight.wait_until_fresh(name)
            with battlefield.under(schedule(seed, seconds)), load.at_work():
                time.sleep(seconds)
            for name in COPIES:
                straight.wait_until_fresh(name, _QUIET_WITHIN)
            eventually(lambda: not _retries_under_way(straight), seconds=120, what="the end of all retries")
        yield Battle(straight, load, acknowledged, battlefield.inflicted, battlefield.deaths)


def _retries_under_way(world: World) -> int:
    with world.database() as connection:
        [(count,)] = connection.execute(
            "SELECT count(*)::int FROM sync.retries WHERE state IN ('waiting', 'sent')"
        ).fetchall()
    return cast("int", count)


def _sizes(seed: int) -> dict[str, object]:
    """Small and usual ones: both have their own ways to go wrong."""
    draw = Random(f"{seed}/sizes")
    return {
        "relay_batch_rows": draw.choice([20, 2_000]),
        "working_set_mib": draw.choice([0, 1, 64]),
        "window_max_changes": draw.choice([20, 1_500]),
    }


class _Battlefield:
    def __init__(self, ground: Ground, settings: Settings, make: Callable[[str, Settings], KeptFlow]) -> None:
        self._ground = ground
        self._settings = settings
        self._make = make
        self._made = [make(flow, settings) for flow in FLOWS]
        self.flows = {flow.flow: flow for flow in self._made}
        self.inflicted: list[Fault] = []
        self._failures: list[BaseException] = []

    @property
    def deaths(self) -> list[str]:
        return [death for flow in self._made for death in flow.deaths]

    @contextmanager
    def under(self, faults: Sequence[Fault]) -> Iterator[None]:
        """Each target's faults one after another, all targets side by side; after the block all is whole."""
        begin = time.monotonic()

        def on_one(target: str) -> None:
            try:
                for fault in faults:
                    if fault.target == target:
                        due_in_seconds = begin + fault.at_seconds - time.monotonic()
                        if due_in_seconds < 0:
                            continue  # the one before is not over: a server takes its time to start
                        time.sleep(due_in_seconds)
                        self._inflict(fault)
                        self.inflicted.append(fault)
            except BaseException as error:  # noqa: BLE001 - raised again below
                self._failures.append(error)

        threads = [
            threading.Thread(target=on_one, args=(target,)) for target in {fault.target for fault in faults}
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def _inflict(self, fault: Fault) -> None:
        if fault.target in SERVERS:
            self._on_server(fault)
        elif fault.target in FLOWS:
            self._on_flow(fault)
        else:
            with self._on_road(fault):
                time.sleep(fault.seconds)

    def _on_server(self, fault: Fault) -> None:
        if fault.kind == "pause":
            with self._ground.paused(fault.target):
                time.sleep(fault.seconds)
        else:
            self._ground.kill(fault.target)
            time.sleep(fault.seconds)
            self._ground.start(fault.target)

    def _on_flow(self, fault: Fault) -> None:
        flow = self.flows[fault.target]
        match fault.kind:
            case "pause":
                with flow.paused():
                    time.sleep(fault.seconds)
            case "rival":
                with self._rival(fault.target):
                    time.sleep(fault.seconds)
            case "usurp":
                with flow.paused():
                    for server in ("postgres", "kafka"):
                        self._ground.proxies[server].break_all()
                    rival = self._rival(fault.target)
                    rival.__enter__()
                    time.sleep(fault.seconds)
                time.sleep(_BESIDE_EACH_OTHER_SECONDS)
                rival.__exit__(None, None, None)
            case _:
                flow.kill()
                if fault.kind == "forget":
                    flow.forget()
                time.sleep(fault.seconds)
                flow.start()

    @contextmanager
    def _rival(self, flow: str) -> Iterator[None]:
        """A second process of the flow, which reads the log from its beginning, and is killed in the end."""
        home = self._settings.home / f"rival-{len(self._made)}"
        rival = self._make(flow, but(self._settings, home=home))
        self._made.append(rival)
        with rival.running():
            yield
            rival.kill()

    def _on_road(self, fault: Fault) -> AbstractContextManager[None]:
        [server] = [server for server in SERVERS if road_to(server) == fault.target]
        proxy = self._ground.proxies[server]
        match fault.kind:
            case "delay":
                return proxy.delayed(_LONGEST_DELAY_SECONDS * min(1, fault.seconds / 6))
            case "cut":
                return proxy.cut()
            case "stall":
                return proxy.stalled()
            case "silence":
                return proxy.silent()
            case "half-close near":
                return proxy.half_closed("near")
            case _:
                return proxy.half_closed("far")
