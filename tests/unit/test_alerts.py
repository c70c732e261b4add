"""Every alert is tried both ways by promtool's test file, and leads to a page that says what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def tried() -> list[dict[str, Any]]:
    tests = yaml.safe_load((ROOT / "deploy" / "alerts_test.yml").read_text())["tests"]
    return [one for test in tests for one in test["alert_rule_test"]]


def anchors(text: str) -> set[str]:
    """What links to the headings of a document end with."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", [rule["alert"] for rule in rules()])
def test_each_alert_is_tried_where_it_fires_and_where_it_keeps_quiet(name: str) -> None:
    outcomes = {bool(one["exp_alerts"]) for one in tried() if one["alertname"] == name}
    assert outcomes == {True, False}


def test_nothing_is_tried_that_is_no_alert() -> None:
    assert {one["alertname"] for one in tried()} == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_how_bad_it_is_and_where_help_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in anchors((ROOT / file).read_text())


def test_each_alert_has_a_line_in_the_handbook_and_each_line_an_alert() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert sorted(re.findall(r"^\| `(Reshelve\w+)` \|", text, re.MULTILINE)) == sorted(
        rule["alert"] for rule in rules()
    )
