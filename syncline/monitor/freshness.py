"""How fresh a copy is: the time up to which everything committed is in it."""

import time
from datetime import UTC, datetime, timedelta

from syncline.model.errors import Unavailable
from syncline.monitor import sql
from syncline.policies.reading import load_policies
from syncline.policies.reentry import topics_read
from syncline.postgres import Connection, connect
from syncline.settings import Settings
from syncline.statements import statement

_POLL_SECONDS = 0.1

_WATERMARKS = """
SELECT watermarks FROM (
    SELECT DISTINCT ON (run, worker) state, watermarks
    FROM sync.status
    WHERE flow = %s AND recorded_at > clock_timestamp() - interval '10 seconds'
    ORDER BY run, worker, recorded_at DESC
) AS newest
WHERE state = 'running'
"""


def lowest_watermark_us(connection: Connection, flow: str, settings: Settings) -> int | None:
    """The lowest watermark over all partitions and workers; ``None`` until each partition had one."""
    lowest: dict[str, int] = {}
    for (watermarks,) in connection.execute(_WATERMARKS, (flow,)):
        for partition, time_us in watermarks.items():
            lowest[partition] = min(time_us, lowest.get(partition, time_us))
    policy = load_policies(settings.policies_dir).flow(flow)
    expected = len(topics_read(policy, settings.topic_prefix)) * settings.topic_partitions
    return min(lowest.values()) if len(lowest) >= expected else None


def read_freshness(connection: Connection, flow: str, settings: Settings) -> dict[str, datetime | None]:
    """By owner of what the flow reads, up to when all of it is in the copy; ``None`` while not known."""
    policy = load_policies(settings.policies_dir).flow(flow)
    reached: dict[str, datetime | None] = dict.fromkeys(policy.owners)
    for owner, as_of in connection.execute(statement(sql, "flow_freshness"), {"flow": flow}):
        if owner in reached and as_of is not None:
            reached[owner] = as_of.astimezone(UTC)
    return reached


def wait_until_fresh(flow: str, settings: Settings, timeout: timedelta) -> None:
    """Wait until everything that is committed now is in the copy. Raises ``Unavailable``."""
    deadline = time.monotonic() + timeout.total_seconds()
    with connect(settings.postgres_dsn.get_secret_value()) as connection:
        answer = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        (now_us,) = answer.fetchone() or (0,)
        while (reached_us := lowest_watermark_us(connection, flow, settings)) is None or reached_us < now_us:
            if time.monotonic() > deadline:
                behind = "unknown" if reached_us is None else f"{(now_us - reached_us) / 1e6:.1f} s behind"
                raise Unavailable(
                    f"{flow} is not fresh after {timeout.total_seconds():.0f} s ({behind}); "
                    "run: syncline status"
                )
            time.sleep(_POLL_SECONDS)
