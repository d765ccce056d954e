"""What is said about the project, in documents and configuration, is true of it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
