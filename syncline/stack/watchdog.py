"""Stops a stack when the process that started this one is gone, however it ended.

The other end of this process's standard input is held by that process alone, so the end of the input is
its end: no signal need be delivered, and none can be missed.
"""

import sys
from pathlib import Path

from syncline.stack.stack import Stack

if __name__ == "__main__":
    sys.stdin.read()
    Stack(Path(sys.argv[1])).down()
