"""Evaluations on logs at other times: rows that came between them, and what the line takes out of texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import lines
from db.session import transaction
from db.tables import Version
from rl.held_out import is_held_out
from rl.redaction import Redaction
from tests.db.test_lineage import HOUR, add_window
from tests.tasks.duel_double import Engine, content
from tests.tasks.held_out_line import HELD, SALT, SHARE, ask, episode, held, put, run, served, stand, world
from tests.tasks.judge_double import Stand
from tests.tasks.rows import rows

__all__ = ["served", "stand"]

LATE = [name for number in range(60) if is_held_out(name := f"t{number:02}", SHARE, SALT)]
SEVERAL = held(verifier="verifier_functions:says_good", scenarios=len(HELD))


@pytest.fixture
def two(served: Engine, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> tuple[Version, Version]:
    """Two versions, of which one is always right. A verifier judges each by itself."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    first, second = world(SEVERAL)
    served.says[first.name], served.says[second.name] = content("bad"), content("good")
    return first, second


def come_late() -> None:
    with transaction() as session:
        add_window(session, lines.named(session, "main"), HOUR, [episode(name) for name in LATE], state="trained")


def scenarios_of(number: int) -> set[str]:
    return {row.scenario_id for row in rows("select * from rlfleet.verdicts where evaluation_id = :id", id=number)}


def test_the_first_evaluation_fixes_the_scenarios_of_the_next_ones(two: tuple[Version, Version]) -> None:
    """More rows than were asked about, and half of them would be drawn before those of the first evaluation."""
    first, second = two
    run(ask(SEVERAL, first, second.name))
    come_late()
    run(ask(SEVERAL, second, second.name))
    assert scenarios_of(1) == scenarios_of(2) == set(HELD)


def test_who_is_asked_again_is_asked_about_what_the_other_was(two: tuple[Version, Version]) -> None:
    first, second = two
    fewer = HELD[: len(HELD) // 2]
    run(ask(SEVERAL, first, second.name))
    rows("delete from rlfleet.verdicts where not scenario_id = any(:kept) returning 1", kept=fewer)
    rows("update rlfleet.evaluations set k = 0, n = :n returning 1", n=len(fewer))
    come_late()
    run(ask(SEVERAL, second, second.name))
    added = scenarios_of(2) - set(fewer)
    assert len(added) == len(HELD) - len(fewer)
    assert "succeeded" in run(ask(SEVERAL, first, second.name, held=len(fewer)))
    assert scenarios_of(1) == scenarios_of(2)


def test_answers_that_were_kept_are_not_shown_once_the_line_takes_something_out(served: Engine, stand: Stand) -> None:
    first, _ = world(held())
    served.says[first.name] = content("good: ask ann@example.org")
    run(ask(held(), first))
    assert "ann@" in str(stand.asked)
    stand.asked.clear()
    put(held(), redaction=Redaction(kinds=["email"]))
    run(ask(held(scenarios=len(HELD) - 1), first))
    assert stand.asked
    assert "ann@" not in str(stand.asked)
