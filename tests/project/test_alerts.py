"""Each alert asks for metrics that there are, and says what to do."""

import importlib
import re
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from syncline.flow_processes import FLOWS
from tests.project import ROOT

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/syncline.rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
METRIC = re.compile(r"\bsyncline_\w+")


def metrics() -> set[str]:
    """All that a process of a flow can tell, as Prometheus names it."""
    for flow in FLOWS:
        importlib.import_module(f"dataflows.{flow}")
    return {
        f"{family.name}_total" if family.type == "counter" else family.name for family in REGISTRY.collect()
    }


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    named = set(METRIC.findall(rule["expr"]))
    assert named
    assert named <= metrics()


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description"}


def test_no_two_alerts_have_one_name() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
