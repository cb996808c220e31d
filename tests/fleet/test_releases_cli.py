from __future__ import annotations

import json
import re
from typing import Any

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

import tasks
from db import controls
from db.session import transaction
from fleet.releases_cli import _bounds, releases
from fleet.terminal import BASE_ANSWERS
from rl.errors import InvalidInput
from rl.release_plan import Plan
from rl.stages import Stage, Stages
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import add_line, add_version, empty, released
from tests.db import traffic

app = typer.Typer()
app.command()(releases)
CANARY, STABLE = "babylon-agent-v1.0.1", "babylon-agent-v1.0.0"
PLAN = Plan(stages=Stages(stages=(Stage(share=20, min_rewards=5, tolerance=0.01), Stage(share=50), Stage(share=100))))


@pytest.fixture
def runner(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    with transaction() as session:
        empty(session)
        traffic.start(session, PLAN, 25)
    return CliRunner()


def serve(rates: tuple[float, float]) -> None:
    with transaction() as session:
        traffic.serve(session, (CANARY, STABLE), 20, rates, hours=2, episodes=600)


def said(runner: CliRunner, *words: str, code: int = 0) -> list[str]:
    result = runner.invoke(app, words)
    assert result.exit_code == code, result.output
    return [re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "T", line) for line in result.stdout.splitlines()]


def shown(runner: CliRunner, code: int = 0) -> Any:
    return json.loads(said(runner, "--json", code=code)[0])


def test_a_canary_that_nobody_looked_at(runner: CliRunner) -> None:
    assert said(runner) == [
        "line main",
        f"  stable: {STABLE}, 100 % since T: released by a test",
        f"  canary: {CANARY}, 20 % since T: tried by a test",
        "    nobody has looked at its traffic yet; `rlfleet.watch_releases` does so every minute",
    ]


def test_a_canary_with_its_last_look(runner: CliRunner) -> None:
    serve((0.5, 0.5))
    with transaction() as session:
        traffic.fail(session, STABLE, traffic.hours_ago(session, 1))
        for _ in range(2):
            traffic.fail(session, CANARY, traffic.hours_ago(session, 1), agent="h")
    tasks.watch_releases.run()
    look = shown(runner)["lines"][0]["canary"]["look"]
    assert (look["verdict"]["say"], look["step"]["action"]) == ("continue", "hold")
    words = said(runner)
    counted = look["counted"]
    assert counted["canary"] + counted["stable"] == 600
    assert f"    trajectories {counted['canary']} against {counted['stable']}" in words
    assert any(
        re.fullmatch(r"    failed 2 of \d+ requests \(2 of one agent\) against 1 of \d+", line) for line in words
    )
    assert any(re.fullmatch(r"    looked at T: the test says continue; .*", line) for line in words)
    assert any(
        re.fullmatch(r"    reward 0\.\d+ in \d+ rewards of \d+ agents against .*, within \[.*\]", line)
        for line in words
    )
    assert "    next stage: 50 %, once it is not worse by 0.01 or more" in words


def test_a_canary_that_was_rolled_back_is_not_a_good_state_until_the_next_release(runner: CliRunner) -> None:
    serve((0.1, 0.9))
    tasks.watch_releases.run()

    words = said(runner, code=1)

    assert words[:2] == [
        "line main: the last canary was rolled back",
        f"  stable: {STABLE}, 100 % since T: released by a test",
    ]
    assert words[2].startswith(f"  before: {CANARY} canary 20 % T to T, the version is rejected: worse: reward 0.")
    found = shown(runner, 1)
    assert (found["ok"], found["lines"][0]["ok"], found["lines"][0]["canary"]) == (False, False, None)
    assert found["lines"][0]["history"][0]["look"]["step"]["action"] == "roll back"

    with transaction() as session:
        another = add_version(session, add_line(session))
        released(session, another.line_id, another.id)
    assert shown(runner)["ok"]


def test_a_pin_that_does_not_count_is_told_as_such(runner: CliRunner) -> None:
    with transaction() as session:
        canary = traffic.canary_of(session)
        controls.pin(session, canary.line_id, canary.version_id, "look at it", "a test")
    clear = "`rlfleet pin --clear --line main --reason TEXT`"
    assert said(runner)[1] == f"  pinned: {CANARY} answers everybody until {clear}"
    with transaction() as session:
        session.execute(text("update rlfleet.versions set state = 'rejected' where name = :name"), {"name": CANARY})
    why = f"{CANARY} is rejected, so the releases decide"
    assert said(runner)[1] == f"  pinned, and not used: {why}; {clear} takes the pin away"
    assert (shown(runner)["lines"][0]["pinned"], shown(runner)["lines"][0]["pin_counts"]) == (CANARY, False)


def test_a_canary_that_nobody_looks_at_any_more_is_told_as_such(runner: CliRunner) -> None:
    tasks.watch_releases.run()
    assert not any("for ten minutes" in line for line in said(runner))
    assert not shown(runner)["lines"][0]["canary"]["is_unwatched"]
    with transaction() as session:
        session.execute(text("update rlfleet.releases set looked_at = now() - interval '11 minutes'"))
    assert "    nobody has looked at its traffic for ten minutes: nothing rolls it back by itself" in said(runner)
    assert shown(runner)["lines"][0]["canary"]["is_unwatched"]


def test_bounds_in_words() -> None:
    assert _bounds(None, None) == "no bounds yet"
    assert (_bounds(None, 0.5), _bounds(-0.5, None)) == ("at most +0.5", "at least -0.5")
    assert _bounds(-0.5, 0.25) == "within [-0.5, +0.25]"


def test_lines_without_a_release_and_lines_that_do_not_exist(runner: CliRunner) -> None:
    with transaction() as session:
        add_line(session, "another")
        session.execute(
            text("insert into rlfleet.controls (line_id, killed, actor, reason) values (1, true, 'a', 'b')")
        )
    assert said(runner, "--line", "another") == ["line another", f"  stable: none; {BASE_ANSWERS}"]
    back = "`rlfleet kill --off --line main --reason TEXT`"
    assert said(runner)[:4][-2:] == [
        "line main",
        f"  killed: none of its versions answers until {back}; {BASE_ANSWERS}",
    ]
    assert shown(runner)["lines"][1]["killed"]
    result = runner.invoke(app, ["--line", "nobody"])
    assert isinstance(result.exception, InvalidInput)
