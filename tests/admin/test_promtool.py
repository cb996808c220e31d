"""What promtool says of docker/prometheus.yml, of the alert rules, and of the rules on series made for them."""

from __future__ import annotations

from typing import Any

import yaml

from tests.admin.scraper import DOCKER, promtool

CASES = yaml.safe_load((DOCKER / "alerts.test.yml").read_text())


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_the_rules_are_valid_and_each_is_there_once() -> None:
    run = promtool("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
    assert run.returncode == 0, run.stderr
    assert f"SUCCESS: {len(rules())} rules found" in run.stdout


def test_the_configuration_is_valid() -> None:
    """Its syntax: the rules and the token lie where a container has them."""
    run = promtool("check", "config", "--syntax-only", "prometheus.yml")
    assert run.returncode == 0, run.stderr


def test_each_rule_fires_when_it_should_and_not_otherwise() -> None:
    run = promtool("test", "rules", "alerts.test.yml")
    assert run.returncode == 0, run.stdout + run.stderr


def test_each_rule_has_a_moment_at_which_it_fires_and_one_at_which_it_does_not() -> None:
    moments = [moment for case in CASES["tests"] for moment in case["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {moment["alertname"] for moment in moments if moment["exp_alerts"]} == names
    assert {moment["alertname"] for moment in moments if not moment["exp_alerts"]} == names
