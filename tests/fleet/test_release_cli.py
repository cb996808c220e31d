from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from db import audit, jobs, lines, releases
from db.session import transaction
from fleet import cli, noted
from fleet.cli import app
from fleet.status import read
from fleet.terminal import BASE_ANSWERS
from rl.config import Release as Policy
from rl.errors import InvalidInput
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.db.judged import GATE, V0, V1, V2, candidate, decide, line_with, live, to_decide
from tests.db.trained import add_line, add_version


@pytest.fixture
def fleet(database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("USER", "ann")
    with transaction() as session:
        empty(session)
    line_with(Policy(**GATE, share=40))
    candidate()
    return CliRunner()


def said(fleet: CliRunner, *words: str) -> str:
    result = fleet.invoke(app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout.strip()


def told(fleet: CliRunner, *words: str) -> dict[str, object]:
    found = json.loads(said(fleet, *words, "--json"))
    assert found.pop("schema") == 1
    return dict(found)


def refused(fleet: CliRunner, *words: str) -> str:
    result = fleet.invoke(app, words)
    assert isinstance(result.exception, InvalidInput), (result.output, result.exception)
    return str(result.exception)


def test_a_version_is_deployed_and_the_same_again_changes_nothing(fleet: CliRunner) -> None:
    words = ("deploy", "v1.0.1", "--reason", "we want it")
    expected = f"{V1} is the canary version of line main for 4 % of its agents"
    assert said(fleet, *words) == f"{expected}; `rlfleet releases` says how it does"
    assert said(fleet, *words) == f"{expected}, as before; `rlfleet releases` says how it does"
    found = told(fleet, *words)
    assert (found["version"], found["stage"], found["share"], found["changed"]) == (V1, "canary", 4, False)


def test_a_version_of_another_line_than_was_said_is_refused(
    fleet: CliRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with transaction() as session:
        theirs = add_version(session, add_line(session, "shop"), state="ready").name
    both = f"line = 'main': {theirs} is a version of line shop: name that line, or another version"
    for words in (
        ("deploy", theirs, "--line", "main", "--unevaluated"),
        ("approve", theirs, "--line", "main"),
        ("reject", theirs, "--line", "main"),
        ("rollback", "--to", theirs),
        ("pin", theirs),
    ):
        assert refused(fleet, *words, "--reason", "x") == both
    assert "'mian': no such line" in refused(fleet, "deploy", theirs, "--line", "mian", "--reason", "x")
    assert live() == [("stable", V0, 100)]
    assert told(fleet, "deploy", theirs, "--line", "shop", "--unevaluated", "--reason", "x")["line"] == "shop"
    assert told(fleet, "deploy", theirs, "--unevaluated", "--reason", "x")["changed"] is False
    assert told(fleet, "pin", theirs, "--line", "shop", "--reason", "x")["pinned"] == theirs
    monkeypatch.setattr(sys, "argv", ["rlfleet", "deploy", theirs, "--line", "main", "--reason", "x"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, f"rlfleet: {both}\n")


def test_a_deployment_at_once(fleet: CliRunner) -> None:
    found = told(fleet, "deploy", V1, "--strategy", "immediate", "--share", "70", "--reason", "we want it")
    assert (found["stage"], found["share"], found["changed"], found["evaluated"]) == ("stable", 70, True, True)
    assert live() == [("stable", V1, 70)]


def test_what_cannot_be_deployed_says_what_to_do(fleet: CliRunner) -> None:
    assert "give one of immediate, gradual, test" in refused(fleet, "deploy", V1, "--strategy", "now", "--reason", "x")
    assert "say why, in a few words" in refused(fleet, "deploy", V1, "--reason", " ")
    assert "no such version; near ones are" in refused(fleet, "deploy", "babylon-agent-v1.0.7", "--reason", "x")
    assert "known lines: main" in refused(fleet, "deploy", "v1.0.1", "--line", "mian", "--reason", "x")
    result = fleet.invoke(app, ["deploy", V1])
    assert (result.exit_code, "--reason" in result.stderr) == (2, True)
    assert live() == [("stable", V0, 100)]


def test_an_unevaluated_version_is_deployed_with_a_warning(fleet: CliRunner) -> None:
    with transaction() as session:
        add_version(session, lines.named(session, "main"))
    assert "--unevaluated" in refused(fleet, "deploy", V2, "--reason", "x")
    result = fleet.invoke(app, ["deploy", V2, "--reason", "x", "--unevaluated", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["evaluated"]) == (0, False)
    assert f"{V2} was released without any evaluation" in result.stderr
    assert f"{V2} released by ann over {V0}, unevaluated: x (person)" in said(fleet, "explain", V2)


def test_a_rollback_ends_the_canary_then_moves_the_stable_version(fleet: CliRunner) -> None:
    said(fleet, "deploy", V1, "--reason", "we want it")
    words = ("rollback", "--reason", "it stalls")
    ended = {"line": "main", "stable": V0, "share": 100, "left": [V1], "changed": True, "pinned": None}
    assert told(fleet, *words) == ended
    assert "no other version was stable before" in refused(fleet, *words)
    second = candidate(70)
    said(fleet, "deploy", second, "--strategy", "immediate", "--reason", "we want it")
    expected = f"{V0} is the stable version of line main for 100 % of its agents"
    assert said(fleet, *words) == f"{expected}; left: {second}"
    assert said(fleet, *words, "--to", "v1.0.0") == f"{expected}, as before"
    assert "`rlfleet kill --on --line main --reason TEXT` takes" in refused(fleet, *words)
    assert "it is rejected" in refused(fleet, *words, "--to", second)


def test_a_rollback_names_the_pin_that_still_holds(fleet: CliRunner) -> None:
    said(fleet, "deploy", V1, "--reason", "we want it")
    said(fleet, "pin", V0, "--reason", "an incident")
    shown = said(fleet, "rollback", "--reason", "it stalls")
    assert shown.endswith(
        f"; left: {V1}; but the pin on {V0} holds, and that one answers all agents: "
        "see `rlfleet pin --clear --line main --reason TEXT`"
    )
    assert told(fleet, "rollback", "--to", V0, "--reason", "it stalls")["pinned"] == V0


def test_an_approval_is_given_once(fleet: CliRunner) -> None:
    line_approves()
    decide(to_decide(V1))
    assert "waits for approval" in said(fleet, "explain", V1)
    asked = f"  waits for approval: {V1}; `rlfleet approve {V1}`, or with --refuse --reason TEXT"
    assert asked in fleet.invoke(app, ["releases"]).stdout.splitlines()
    first = told(fleet, "approve", V1)
    assert (first["approval"], first["by"], first["changed"], first["stage"]) == ("given", "ann", True, "canary")
    again = said(fleet, "approve", "v1.0.1")
    assert again == f"{V1}: approval given by ann at {first['at']}"
    assert "waits for approval" not in said(fleet, "releases")
    assert f"; approved by ann {first['at']}" in said(fleet, "explain", V1)


def test_an_approval_is_refused_with_a_reason(fleet: CliRunner) -> None:
    line_approves()
    decide(to_decide(V1))
    assert "say why" in refused(fleet, "approve", V1, "--refuse")
    assert told(fleet, "approve", V1, "--refuse", "--reason", "too terse")["approval"] == "refused"
    assert "ann refused it" in refused(fleet, "approve", V1)


def line_approves() -> None:
    with transaction() as session:
        config = lines.config_of(lines.named(session, "main"))
        lines.put(session, "main", config.model_copy(update={"release": Policy(**GATE, approval=True)}))


def test_a_pin_and_a_kill_switch_are_set_and_shown(fleet: CliRunner) -> None:
    assert said(fleet, "pin", "v1.0.0", "--reason", "steady") == f"line main: {V0} answers all agents"
    assert told(fleet, "pin", V0, "--reason", "steady") == {"line": "main", "pinned": V0, "changed": False}
    assert said(fleet, "kill", "--on", "--reason", "it burns") == f"line main: {BASE_ANSWERS}"
    with transaction() as session:
        found = releases.by_line(session)["main"]
        assert (found.killed, found.pinned and found.pinned.name) == (True, V0)
    (line,) = read()["lines"]
    assert (line["killed"], line["pinned"], line["stable"], line["canary"]) == (True, V0, V0, None)
    shown = fleet.invoke(app, ["status"]).stdout
    assert f"killed: line main: {BASE_ANSWERS}; `rlfleet kill --off --line main --reason TEXT`" in shown
    assert f"pinned: line main to {V0}; `rlfleet pin --clear --line main --reason TEXT`" in shown
    assert told(fleet, "kill", "--off", "--reason", "out") == {"line": "main", "killed": False, "changed": True}
    assert said(fleet, "pin", "--clear", "--reason", "enough") == "line main: no pin, the releases say who answers"


def test_a_candidate_is_given_up_once(fleet: CliRunner) -> None:
    words = ("reject", "v1.0.1", "--reason", "its verdicts never come")
    reason = "rejected by ann: its verdicts never come"
    expected = {"line": "main", "version": V1, "reason": reason, "changed": True}
    assert told(fleet, *words) == expected
    assert told(fleet, *words) == expected | {"changed": False}
    assert said(fleet, *words) == f"{V1} is rejected, as before ({reason})"
    assert "say why" in refused(fleet, "reject", V0, "--reason", " ")
    assert "rlfleet rollback" in refused(fleet, "reject", V0, "--reason", "x")
    assert f"{V1} not released by ann" in said(fleet, "explain", V1)
    assert live() == [("stable", V0, 100)]


def test_the_status_says_what_a_candidate_waits_for(fleet: CliRunner) -> None:
    assert read()["candidates"] == [
        {"line": "main", "version": V1, "waits": [f"decide {V1}: the next look of the fleet asks for it"]}
    ]
    claim = to_decide(V1)
    jobs.fail(claim, "x", retry=False)
    remedy = f"`rlfleet jobs requeue {claim.job_id}`, or `rlfleet reject {V1} --reason TEXT`"
    shown = fleet.invoke(app, ["status"]).stdout
    assert f"candidate: {V1}: decide {V1}: job {claim.job_id} is failed (x); {remedy}" in shown
    said(fleet, "reject", V1, "--reason", "enough")
    assert read()["candidates"] == []


def test_a_candidate_behind_a_canary_waits_for_its_end(fleet: CliRunner) -> None:
    said(fleet, "deploy", V1, "--reason", "we want it")
    second = candidate(70)
    (one,) = read()["candidates"]
    assert (one["version"], one["waits"]) == (second, [f"the decision waits until {V1} is no canary any more"])


def test_what_cannot_be_pinned_says_what_to_do(fleet: CliRunner) -> None:
    assert "name a version to pin, or give --clear" in refused(fleet, "pin", "--reason", "x")
    assert "name a version to pin, or give --clear" in refused(fleet, "pin", V0, "--clear", "--reason", "x")
    assert "it is candidate; only a ready version can be pinned" in refused(fleet, "pin", V1, "--reason", "x")


def test_the_status_shows_the_canary_and_its_share(fleet: CliRunner) -> None:
    said(fleet, "deploy", V1, "--reason", "we want it")
    (line,) = read()["lines"]
    assert (line["stable"], line["share"], line["canary"], line["canary_share"]) == (V0, 100, V1, 4)
    assert V1 in fleet.invoke(app, ["status"]).stdout


def test_canary_places_and_rollbacks_are_explained_with_their_reasons(fleet: CliRunner) -> None:
    said(fleet, "deploy", V1, "--reason", "we want it")
    with transaction() as session:
        (canary,) = releases.canaries(session)
        releases.advance(session, canary.release_id, 50, "10 % to 50 %")
    said(fleet, "rollback", "--reason", "it stalls")
    shown = said(fleet, "explain", V1)
    assert f"{V1} released by ann over {V0}: we want it (person)" in shown
    assert f"{V1} rolled back by ann over {V0}: it stalls (rollback)" in shown
    assert f"{V1} canary, stage 1, 4 % " in shown
    assert ": we want it; ended: 10 % to 50 %" in shown
    assert ": 10 % to 50 %; ended: rolled back by ann: it stalls" in shown
    second = candidate(70)
    said(fleet, "deploy", second, "--strategy", "immediate", "--reason", "we want it")
    said(fleet, "rollback", "--reason", "no")
    assert f"{V0} released by ann over {second}: no (rollback)" in said(fleet, "explain", second)


def test_who_says_so_is_the_user(fleet: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted.actor() == "ann"
    monkeypatch.setenv("USER", " ")
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    assert noted.actor() == "root"


def test_wrong_input_ends_the_command_with_2(fleet: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rlfleet", "deploy", "babylon-agent-v1.0.9", "--reason", "x"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


def test_what_is_asked_for_in_the_shell_is_in_the_audit(fleet: CliRunner) -> None:
    said(fleet, "deploy", "v1.0.1", "--reason", "we want it")
    said(fleet, "rollback", "--reason", "it is slow")
    refused(fleet, "deploy", "v1.0.9", "--reason", "we want it")
    said(fleet, "kill", "--reason", "it is rude")
    with transaction() as session:
        found = audit.listing(session)[::-1]
    assert [(one.actor, one.action, one.subject, one.outcome) for one in found] == [
        ("ann@shell", "deploy", "v1.0.1", "done"),
        ("ann@shell", "rollback", "main", "done"),
        ("ann@shell", "deploy", "v1.0.9", "refused"),
        ("ann@shell", "kill", "main", "done"),
    ]
    assert found[0].detail == {"reason": "we want it"}
    assert "v1.0.9" in found[2].detail["error"]
