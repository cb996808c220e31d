"""`rlfleet doctor` on lines whose configs need something of the environment."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import text

from db import lines as rows
from db.session import transaction
from fleet.doctor import lines
from fleet.doctor.finding import Finding
from rl.config import LineConfig
from rl.held_out import HeldOut
from rl.scoring_config import Judge, Scoring
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty

JUDGE = Judge(model="gpt-large")
JUDGED = Scoring(method="judge", judge=JUDGE)


def levels(found: Iterable[Finding]) -> dict[str, str]:
    return {one.check: one.level for one in found}


def words(found: Iterable[Finding], check: str) -> str:
    return next(f"{one.words}: {one.remedy}" for one in found if one.check == check)


def test_a_line_with_a_judge_needs_its_server_and_perhaps_a_key(database: str) -> None:
    with transaction() as session:
        empty(session)
        rows.put(session, "plain", LineConfig(base_model="m"))
    environ = {"DATABASE_URL": database}
    assert [(one.check, one.level) for one in lines.look(environ)] == [("lines", "ok")]
    with transaction() as session:
        rows.put(session, "shop", LineConfig(base_model="m", scoring=JUDGED))
        rows.put(session, "talk", LineConfig(base_model="m", held_out=HeldOut(judge=JUDGE)))
    found = list(lines.look(environ))
    assert levels(found) == {"line shop": "fail", "line talk": "fail"}
    assert "line shop has scoring.judge, and RLFLEET_JUDGE_URL is not set" in words(found, "line shop")
    assert "line talk has held_out.judge, and RLFLEET_JUDGE_URL is not set" in words(found, "line talk")
    environ["RLFLEET_JUDGE_URL"] = "https://judge/v1"
    found = list(lines.look(environ))
    assert levels(found) == {"line shop": "warn", "line talk": "warn"}
    assert "no key is set (RLFLEET_JUDGE_KEY or OPENPIPE_API_KEY): set RLFLEET_JUDGE_KEY" in words(found, "line shop")
    found = list(lines.look(environ | {"OPENPIPE_API_KEY": "hunter2"}))
    assert levels(found) == {"line shop": "ok", "line talk": "ok"}
    assert "hunter2" not in str(found)
    with transaction() as session:
        session.execute(text("update rlfleet.lines set config = '{\"newer\": 1}' where name = 'shop'"))
    assert levels(lines.look(environ)) == {"line shop": "warn", "line talk": "warn"}


def test_without_a_database_no_line_is_known(tmp_path: Path) -> None:
    assert list(lines.look({"RLFLEET_HOME": str(tmp_path)})) == []
