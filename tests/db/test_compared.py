"""Two versions side by side of which one was evaluated otherwise: other prompts, other scenarios of logs."""

from __future__ import annotations

import pytest

from db.tables import Line
from rl.errors import TransientError
from tests.db.test_evaluations import LOGS, add, compared, judge, line, several, verdict

__all__ = ["line"]


def test_of_two_prompts_the_newer_one_is_compared_only_where_both_have_it_whole(line: Line) -> None:
    """The decision waits in the queue while one of the two is evaluated under another prompt."""
    name, rival = add(line, "a" * 64), add(line, "b" * 64)
    for one in (name, rival):
        judge(line, one, several("++++"), prompt="old")
    judge(line, name, several("--??"), prompt="new")
    judge(line, rival, several("----"), prompt="new")
    assert set(compared(name, rival).candidate["grid"].values()) == {1.0}
    judge(line, name, several("----"), prompt="new", missing=2)
    assert set(compared(name, rival).candidate["grid"].values()) == {0.0}


def test_of_logs_the_scenarios_that_both_were_asked_about_are_compared(line: Line) -> None:
    logs, (name, rival) = LOGS.model_copy(update={"against": "", "count": 40}), (add(line, one * 64) for one in "ab")
    judge(line, name, [verdict(f"s{place:02}", True, type="") for place in range(40)], logs)
    judge(line, rival, [verdict(f"s{place:02}", False, type="") for place in range(3, 43)], logs)
    with pytest.raises(TransientError, match="37 of 40 scenarios in common"):
        compared(name, rival, logs)
    judge(line, rival, [verdict(f"s{place:02}", False, type="") for place in range(2, 43)], logs, held=40)
    found = compared(name, rival, logs)
    assert set(found.candidate["logged"]) == set(found.stable["logged"]) == {f"s{place:02}" for place in range(2, 40)}
