"""The alert rules in a real promtool: they can be loaded, and do what their test file says."""

import subprocess
from pathlib import Path

import pytest

from engines.programs import find_promtool

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def promtool() -> Path:
    return find_promtool()


def ran(promtool: Path, *words: str, where: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *words], cwd=where, capture_output=True, text=True, timeout=120, check=False)


def test_the_rules_can_be_loaded(promtool: Path) -> None:
    done = ran(promtool, "check", "rules", "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_not_before(promtool: Path) -> None:
    done = ran(promtool, "test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new"), [("> 120\n", "> 1200\n"), (" offset 6h", " offset 1h"), ("for: 10m", "for: 1m"), ("> 0.8", "> 0.7")]
)
def test_a_rule_that_was_changed_by_mistake_is_noticed(promtool: Path, tmp_path: Path, old: str, new: str) -> None:
    rules = (DEPLOY / "alerts.yml").read_text()
    assert old in rules
    (tmp_path / "alerts.yml").write_text(rules.replace(old, new))
    (tmp_path / "alerts_test.yml").write_text((DEPLOY / "alerts_test.yml").read_text())
    assert ran(promtool, "test", "rules", "alerts_test.yml", where=tmp_path).returncode != 0
