from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from environments import sampling
from fleet.cli import app
from rl.reward_lint import Sampled


def test_the_published_shaping_fails_with_the_pairs_that_break_it() -> None:
    ended = CliRunner().invoke(app, ["lint-reward", "published", "--json"])
    found = json.loads(ended.stdout)
    assert (ended.exit_code, found["passed"], found["episodes"]) == (1, False, 17)
    assert [(fault["rule"], fault["pairs"]) for fault in found["faults"]] == [("short", 28), ("answer", 3)]


@pytest.mark.parametrize(
    "name", ["alfworld-small", "babyai", "babyai-goto", "memory-small", "sat-small", "trading-small"]
)
def test_small_environments_pay_for_solving_early(name: str) -> None:
    ended = CliRunner().invoke(app, ["lint-reward", name, "--scenarios", "3"])
    assert ended.exit_code == 0, ended.stdout
    one_length = name in {"memory-small", "sat-small", "trading-small"}
    assert ended.stdout.count("holds") == (3 if one_length else 4)
    assert ended.stdout.count("none is shorter") == one_length
    assert ended.stdout.count("(0 pairs)") == one_length


def test_pairs_are_counted_for_each_rule() -> None:
    """Five replies to a scenario: the expert's, silence and three by chance, of which none is right here."""
    ended = CliRunner().invoke(app, ["lint-reward", "sat-small", "--scenarios", "3", "--json"])
    found = json.loads(ended.stdout)
    assert (ended.exit_code, found["passed"], found["scenarios"], found["episodes"]) == (0, True, 3, 15)
    assert [(one["rule"], one["status"], one["pairs"]) for one in found["rules"]] == [
        ("short", "inapplicable", 0),
        ("right", "holds", 9),
        ("silent", "holds", 3),
        ("answer", "holds", 9),
    ]


def test_a_rule_that_nothing_was_compared_for_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Sampled("a", "right", 1, 1.0), Sampled("a", "right", 2, 1.0), Sampled("a", "silent", 8, 0.0)]
    monkeypatch.setattr(sampling, "samples", lambda environment, ref: rows)
    ended = CliRunner().invoke(app, ["lint-reward", "sat-small"])
    assert ended.exit_code == 1
    assert ended.stdout.count("untested") == 2
    assert ended.stdout.count("no such two episodes of one scenario: play more, such as --scenarios 40") == 2


def test_what_holds_by_construction_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Sampled("a", "right", 1, 1.0, by_reward=True),
        Sampled("a", "right", 2, 1.0, by_reward=True),
        Sampled("a", "wrong", 1, 0.0, by_reward=True),
        Sampled("a", "silent", 8, 0.0),
    ]
    monkeypatch.setattr(sampling, "samples", lambda environment, ref: rows)
    ended = CliRunner().invoke(app, ["lint-reward", "sat-small", "--scenarios", "1"])
    assert ended.exit_code == 0
    assert "2 of them by construction: the environment tells right from wrong by the reward alone" in ended.stdout
