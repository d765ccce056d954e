"""``syncline demo --keep``: it waits for Ctrl-C, and has the time to stop what it started."""

import signal
import subprocess
import sys
from pathlib import Path

WAIT = """
import signal
from syncline.console.demo import _wait_for_ctrl_c
from syncline.settings import Settings
_wait_for_ctrl_c(Settings())
print(signal.alarm(0))
"""


def test_ctrl_c_ends_the_wait_and_leaves_time_to_stop_all(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-uc", WAIT], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("Stop it all: Ctrl-C") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert int(said) > 60, "seconds until the process is ended whatever it does"
