"""Chance for waits, from a generator of its own: threads that wait must not disturb who seeds Python's."""

from random import Random

JITTER = Random()  # noqa: S311 - no secret
