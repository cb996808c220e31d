"""Which scenarios of the logs are asked about, in which order, and which half of the hours they belong to."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db import held_out
from db.tables import Line, Version
from rl.held_out import LoggedSet, is_held_out, sets_of
from tests.db import chains
from tests.db.test_held_out import NAMES, NOTHING, call, episode, fill, held, of, put, scenarios, session
from tests.db.test_lineage import HOUR, NEXT, add_window
from tests.db.trained import add_version

__all__ = ["session"]


def test_what_both_halves_hold_belongs_to_one_of_them(session: Session) -> None:
    setting = held(share=0.99)
    line = put(session, setting)
    fill(session, line, HOUR, NAMES[:20])
    fill(session, line, NEXT, NAMES[10:])
    kept = {one for one in NAMES if is_held_out(one, 0.99, "x")}

    def halves(*, chooses: bool) -> list[set[str]]:
        sets = sets_of([HOUR, NEXT], setting, "logged", chooses=chooses)
        return [set(scenarios(held_out.points(session, line.id, one, [], NOTHING))) for one in sets]

    assert halves(chooses=False) == [kept & set(NAMES[:20]), kept & set(NAMES[10:])]
    early, late = halves(chooses=True)
    assert early.isdisjoint(late)
    assert early | late == kept
    assert early > kept & set(NAMES[:10])
    assert late > kept & set(NAMES[20:])


def test_the_order_is_that_of_the_hashes_however_few_are_looked_at_together(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = put(session, held(share=0.99, salt="Salz ü"))
    names = [*NAMES, "ä", "日本", "a'b%"]
    fill(session, line, HOUR, names, several=3)
    silent = [episode(f"silent {n}", f"silent {n}", call(f"silent {n}", messages=[])) for n in range(9)]
    fill(session, line, NEXT, ["s01"])
    setting = of(held(share=0.99, salt="Salz ü"), HOUR, NEXT).model_copy(update={"since": HOUR})
    add_window(session, line, "2025-01-15T12:00", silent)
    setting = setting.model_copy(update={"until": "2025-01-15T13:00"})
    expected = [one for one in names if is_held_out(one, 0.99, "Salz ü")]
    expected.sort(key=lambda one: hashlib.sha256(f"Salz ü\0scenario\0{one}".encode()).digest())
    whole = held_out.points(session, line.id, setting, [], NOTHING)
    assert scenarios(whole) == expected
    for point in whole:
        one = point.scenario_id
        ids = [f"{one}-10-{n}" for n in range(3)] + ([f"{one}-11-0", f"{one}-11-1"] if one == "s01" else [])
        first = min(ids, key=lambda each: hashlib.sha256(f"Salz ü\0trajectory\0{each}".encode()).digest())
        assert point.trajectory.trajectory_id == first
    monkeypatch.setattr(held_out, "AT_ONCE", 4)
    assert held_out.points(session, line.id, setting, [], NOTHING) == whole


def test_what_was_asked_about_before_is_asked_about_first_whatever_came_since(session: Session) -> None:
    """Of 20 scenarios 5 are asked about; later the logs hold 30, and some new ones would come first."""
    setting = held(share=0.99, scenarios=5)
    line = put(session, setting)
    fill(session, line, HOUR, NAMES[:15])
    first = scenarios(asked(session, line, of(setting)))
    version = add_version(session, line)
    judged(session, version, of(setting), first)
    fill(session, line, HOUR, NAMES[15:])
    assert scenarios(asked(session, line, of(setting))) == sorted(first)
    other = of(setting).model_copy(update={"count": 6})
    fresh = scenarios(asked(session, line, other))
    assert not set(fresh) >= set(first), "another task set is drawn by hashes alone"


def test_who_is_asked_again_is_asked_about_all_that_are_known_and_there(session: Session) -> None:
    setting, kept = held(share=0.99, scenarios=5), [one for one in NAMES if is_held_out(one, 0.99, "x")]
    line = put(session, setting)
    fill(session, line, HOUR, NAMES)
    for names in (kept[:5], kept[4:8], ["erased since"]):
        judged(session, add_version(session, line), of(setting), names)
    assert scenarios(asked(session, line, of(setting))) == kept[:5]
    every = scenarios(asked(session, line, of(setting), again=True))
    assert every[:8] == kept[:8]
    assert len(every) == 9, "one more in place of the one that is gone"


def asked(session: Session, line: Line, task_set: LoggedSet, *, again: bool = False) -> list[held_out.Point]:
    known = held_out.known_of(session, line.id, task_set)
    most = max(task_set.count, len(known)) if again else None
    return held_out.points(session, line.id, task_set, [], NOTHING, known=known, most=most)


def judged(session: Session, version: Version, task_set: LoggedSet, names: list[str]) -> None:
    """The version was right on these scenarios."""
    chains.judge(session, version, 1, {"logged": (len(names), len(names))}, task_set, by="verifier/m:f")
    for place, name in enumerate(names):
        session.execute(
            text("update rlfleet.verdicts set scenario_id = :name where scenario_id = :old"),
            {"name": name, "old": f"logged/{place}"},
        )
