"""Two versions judged on logs at other times, from the planner's wish to the decision."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from db import versions, windows
from db.session import transaction
from rl.config import Release
from rl.held_out import HeldOut, LoggedSet
from rl.windows import parse
from tests.db import chains
from tests.db.judged import V0, V1, decide, live, to_decide, wanted
from tests.db.trained import release

pytestmark = pytest.mark.usefixtures("fresh")

HOURS = [f"2025-01-15T{hour:02}:00" for hour in range(10, 14)]
RIGHT = {V0: 150, V1: 290}


def line() -> None:
    """One whose stable version and candidate are judged by a verifier."""
    held, policy = HeldOut(verifier="a:b").model_dump(mode="json"), Release(strategy="immediate").model_dump()
    with transaction() as session:
        one = chains.add_line(session, validation=None, held_out=held, release=policy)
        for hour in HOURS:
            windows.ensure(session, one.id, parse(hour), state="trained")
        release(session, chains.add_version(session, one, (4,), HOURS[0]))
        chains.add_version(session, one, (4,), *HOURS[1:], state="candidate")


def play(change: str, **values: Any) -> None:
    """Both are judged on 300 scenarios; then what ``change`` says happens to those of the second evaluation."""
    for want in wanted("evaluate"):
        with transaction() as session:
            version = versions.named(session, want.inputs["version"])[0]
            task_set = LoggedSet.model_validate(want.config)
            chains.judge(session, version, 4, {"A": (RIGHT[version.name], 300)}, task_set, by="verifier/a:b")
    with transaction() as session:
        session.execute(text(change), values)


OTHERS = """
    update rlfleet.verdicts set scenario_id = 'late/' || scenario_id
     where evaluation_id = (select max(id) from rlfleet.evaluations) and right(scenario_id, 1) = any(:ends)
"""
MORE = """
    insert into rlfleet.verdicts (evaluation_id, scenario_id, sample, "right", content_hash, turns, type)
    select (select min(id) from rlfleet.evaluations), scenario_id, sample, true, '', 1, type
      from rlfleet.verdicts where starts_with(scenario_id, 'late/')
"""


def test_as_many_scenarios_that_are_others_are_evaluated_again_and_reject_nothing() -> None:
    """Rows came between the evaluations, so that half of the second one's scenarios are not the first one's."""
    line()
    play(OTHERS, ends=list("02468"))
    with transaction() as session:
        first = session.execute(text("select version_id from rlfleet.evaluations order by id limit 1")).scalar_one()
        name = session.execute(text("select name from rlfleet.versions where id = :id"), {"id": first}).scalar_one()
    assert wanted("decide") == []
    assert [dict(one.inputs) for one in wanted("evaluate")] == [{"version": name, "held": 300}]
    with transaction() as session:
        session.execute(text(MORE))
        session.execute(
            text("update rlfleet.evaluations set n = 450, k = k + 150 where version_id = :id"), {"id": first}
        )
    assert wanted("evaluate") == []
    assert decide(to_decide())["released"]
    assert live() == [("stable", V1, 100)]


def test_a_few_other_scenarios_are_left_out_of_the_decision() -> None:
    line()
    play(OTHERS + " and scenario_id < 'A/2'", ends=["7"])
    assert wanted("evaluate") == []
    assert decide(to_decide())["released"]
    with transaction() as session:
        evidence = session.execute(text("select evidence from rlfleet.decisions order by id desc limit 1")).scalar_one()
    assert [one["n"] for one in evidence["counts"].values()] == [289, 289]


def test_verdicts_that_are_missing_on_other_scenarios_reject_nothing() -> None:
    """291 of 300 each, and the 9 are others for each: 282 pairs are 94 %."""
    line()
    play("""
        update rlfleet.verdicts set "right" = null, reason = 'no verdict'
         where split_part(scenario_id, '/', 2)::int between 0 and 8
           and evaluation_id = (select min(id) from rlfleet.evaluations)
            or split_part(scenario_id, '/', 2)::int between 20 and 28
           and evaluation_id = (select max(id) from rlfleet.evaluations)
    """)
    with transaction() as session:
        session.execute(
            text("""
            update rlfleet.evaluations e set n = 291, missing = 9,
                   k = (select count(*) from rlfleet.verdicts v where v.evaluation_id = e.id and v."right")
        """)
        )
    assert wanted("evaluate") == []
    assert decide(to_decide())["released"]
    assert live() == [("stable", V1, 100)]
