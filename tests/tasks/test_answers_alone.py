"""Evaluations on logs without a judge, by the user's verifier, or of a half that holds nothing to ask about."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import lines, planning
from db.session import transaction
from rl.held_out import sets_of
from rl.planner import Want
from tests.db.test_lineage import HOUR
from tests.tasks.duel_double import Engine
from tests.tasks.held_out_line import HELD, ask, held, run, served, stand, verdicts, world
from tests.tasks.judge_double import Stand
from tests.tasks.rows import rows

__all__ = ["served", "stand"]

NONE = (None, None)


def test_a_verifier_says_right_or_wrong_of_each_answer(
    served: Engine, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    setting = held(verifier="verifier_functions:like_the_log")
    first, second = world(setting)
    served.says[first.name] = lambda body: {"content": f"good {body['messages'][1]['content'][4:7]}"}
    run(ask(setting, first, second.name))
    assert verdicts() == {name: (name < "s12", None) for name in HELD}
    (row,) = rows("select * from rlfleet.evaluations")
    assert (row.judge, row.against) == ("verifier/verifier_functions:like_the_log", "")
    assert row.k == sum(name < "s12" for name in HELD)
    assert stand.asked == []


def test_with_a_verifier_a_first_version_is_compared_with_what_the_logs_hold(
    served: Engine, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    setting = held(verifier="verifier_functions:says_good")
    first, _ = world(setting)
    served.says[first.name] = lambda body: {"content": "unsure" if "s1" in body["messages"][1]["content"] else "bad"}
    run(ask(setting, first))
    expected = {name: NONE if name[1] == "1" else (False, name < "s12") for name in HELD}
    assert verdicts() == expected
    (row,) = rows("select * from rlfleet.evaluations")
    assert (row.judge, row.against, row.k) == ("verifier/verifier_functions:says_good", "logged", 0)


def test_a_half_for_choosing_without_a_scenario_is_an_answer_and_asks_nobody(served: Engine, stand: Stand) -> None:
    first, _ = world(held())
    task_set = sets_of([HOUR], held(), "logged", chooses=True)[0]
    want = Want("evaluate", "gpu", {"version": first.name}, task_set.model_dump(mode="json"))
    with transaction() as session:
        job_id = planning.request(session, first.line_id, want)
    assert "succeeded" in run(job_id)
    (row,) = rows("select k, n, missing, judge, against from rlfleet.evaluations")
    assert (row.k, row.n, row.missing, row.against) == (0, 0, 0, "logged")
    assert (served.asked, served.loaded, stand.asked) == ([], [], [])
    with transaction() as session:
        (known,) = (one for one in planning.line_state(session, lines.named(session, "main")).versions[:1])
    found = known.on(task_set)
    assert found is not None
    assert (found.n, found.missing) == (0, 0)
