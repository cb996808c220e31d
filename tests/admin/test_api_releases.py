"""A person's word on versions and their releases, through the API."""

from __future__ import annotations

import pytest

from db import audit, lines
from db.session import transaction
from rl.config import Release
from tests.admin.world import Api, audited
from tests.db.judged import GATE, V0, V1, candidate, decide, line_with, live, to_decide
from tests.db.trained import add_line, add_version, states
from tests.tasks import rows


def test_a_version_goes_out_and_is_rolled_back(api: Api) -> None:
    line_with(Release(**GATE, share=40))
    assert candidate() == V1
    done = api.post("deploy", modelVersion="v1.0.1", strategy="immediate", rolloutPercentage=60, reason="we want it")
    assert {name: done[name] for name in ("version", "stage", "share", "changed", "evaluated")} == {
        "version": V1,
        "stage": "stable",
        "share": 60,
        "changed": True,
        "evaluated": True,
    }
    assert live() == [("stable", V1, 60)]
    row = rows.one("select id, reason from rlfleet.releases where ended_at is null")
    assert (done["deploymentId"], "we want it" in row[1]) == (row[0], True)
    assert api.post("deploy", modelVersion=V1, strategy="immediate", rolloutPercentage=60)["changed"] is False
    (shown,) = api.get("releases")["lines"]
    assert (shown["stable"]["version"], shown["stable"]["share"], shown["canary"]) == (V1, 60, None)
    assert [one["version"] for one in shown["history"]] == [V0]
    back = api.post("rollback", targetVersion=V0)
    assert (back["stable"], back["left"], back["changed"], back["pinned"]) == (V0, [V1], True, None)
    assert live() == [("stable", V0, 100)]
    with transaction() as session:
        assert states(session) == {V0: "ready", V1: "rejected"}
    decision = rows.one("select policy, actor from rlfleet.decisions order by id desc limit 1")
    assert tuple(decision) == ("rollback", "otto")
    assert api.post("rollback", 400, targetVersion=V1)["error"] == f"targetVersion cannot be '{V1}'"
    assert audited() == [
        ("otto", "deploy", "v1.0.1", "done"),
        ("otto", "deploy", V1, "done"),
        ("otto", "rollback", "main", "done"),
        ("otto", "rollback", "main", "refused"),
    ]


@pytest.mark.parametrize(("strategy", "share", "first"), [("gradual", 20, 2), ("test", None, 50)])
def test_a_canary_takes_its_share_and_ends_with_a_rollback(
    api: Api, strategy: str, share: int | None, first: int
) -> None:
    line_with(Release(**GATE, share=40))
    candidate()
    body = {"modelVersion": V1, "strategy": strategy} | ({} if share is None else {"rolloutPercentage": share})
    done = api.post("deploy", **body)
    assert (done["stage"], done["share"]) == ("canary", first)
    assert live() == [("canary", V1, first), ("stable", V0, 100)]
    (shown,) = api.get("releases", line="main")["lines"]
    assert (shown["canary"]["version"], shown["canary"]["share"]) == (V1, first)
    back = api.post("rollback")
    assert (back["stable"], back["left"], live()) == (V0, [V1], [("stable", V0, 100)])
    assert api.get("releases")["lines"][0]["ok"] is False


def test_an_unevaluated_version_goes_out_only_if_that_is_said(api: Api) -> None:
    line_with(Release(**GATE))
    with transaction() as session:
        add_version(session, lines.named(session, "main"))
    assert "no evaluation of it is stored" in api.post("deploy", 400, modelVersion=V1, strategy="immediate")["remedy"]
    assert live() == [("stable", V0, 100)]
    done = api.post("deploy", modelVersion=V1, strategy="immediate", unevaluated=True)
    assert (done["evaluated"], live()[0][1]) == (False, V1)
    with transaction() as session:
        last, first = audit.listing(session)
    assert last.detail == {"strategy": "immediate", "reason": "said through the admin API", "unevaluated": True}
    assert first.detail["error"] == f"modelVersion cannot be '{V1}'"
    assert first.detail["remedy"].endswith('send "unevaluated": true')


def test_a_pin_and_the_kill_switch(api: Api) -> None:
    line_with(Release(**GATE))
    with transaction() as session:
        add_version(session, lines.named(session, "main"), state="ready")
    assert api.post("lines/main/pin", version="v1.0.1", reason="a demo")["pinned"] == V1
    assert api.post("lines/main/pin", version=V1, reason="a demo")["changed"] is False
    assert api.post("lines/main/kill", on=True, reason="it is rude")["killed"] is True
    (line,) = api.get("lines")["lines"]
    assert (line["pinned"], line["killed"], line["stable"]) == (V1, True, V0)
    api.post("lines/main/pin", version=None, reason="over")
    api.post("lines/main/kill", on=False, reason="over")
    control = rows.one("select killed, pinned_id, actor from rlfleet.controls")
    assert tuple(control) == (False, None, "otto")


def test_what_waits_for_a_person_is_listed_and_approved(api: Api) -> None:
    line_with(Release(**GATE, approval=True, strategy="immediate"))
    decide(to_decide(candidate()))
    (asked,) = api.get("approvals", line="main")["approvals"]
    assert (asked["version"], asked["stable"], asked["evidence"]["gate"]["approval"]) == (V1, V0, True)
    done = api.post(f"approvals/{V1}/approve")
    assert (done["approval"], done["by"], done["changed"], done["stage"]) == ("given", "otto", True, "stable")
    assert (live()[0][1], api.get("approvals")["approvals"]) == (V1, [])
    assert api.post(f"approvals/{V1}/approve")["changed"] is False
    assert api.post(f"approvals/{V1}/refuse", 400, reason="no")["success"] is False
    assert api.post("approvals/none-v1.0.0/approve", 404)["error"] == "there is no version none-v1.0.0"


def test_a_refused_version_is_rejected(api: Api) -> None:
    line_with(Release(**GATE, approval=True))
    decide(to_decide(candidate()))
    assert api.post(f"approvals/{V1}/refuse", reason="too terse")["approval"] == "refused"
    shown = api.get(f"versions/{V1}")
    assert (shown["version"]["state"], shown["version"]["reason"]) == ("rejected", "refused by otto: too terse")
    assert shown["decisions"][0]["approved_by"] == "otto"


def test_a_candidate_is_given_up(api: Api) -> None:
    line_with(Release(**GATE))
    candidate()
    done = api.post("versions/v1.0.1/reject", reason="it cannot be evaluated")
    assert (done["version"], done["changed"]) == (V1, True)
    assert api.post(f"versions/{V1}/reject", reason="again")["changed"] is False
    assert api.post(f"versions/{V0}/reject", 400, reason="no")["error"] == f"version cannot be '{V0}'"
    assert [one["name"] for one in api.get("versions", state="rejected")["versions"]] == [V1]


def test_counts_come_with_intervals(api: Api) -> None:
    line_with(Release(**GATE))
    assert candidate(60) == V1
    (found,) = api.get("evaluations", version="v1.0.1")["evaluations"]
    # Beta(61, 41) between its tenths: mean 0.598, standard deviation 0.0483.
    overall = found["overall"]
    assert (overall["k"], overall["n"], found["coverage"]) == (60, 100, 1.0)
    assert overall["low"] == pytest.approx(0.598 - 1.2816 * 0.0483, abs=0.002)
    assert overall["high"] == pytest.approx(0.598 + 1.2816 * 0.0483, abs=0.002)
    assert found["types"] == {"gridworld": overall}
    shown = api.get("versions/v1.0.1")
    assert shown["evaluations"] == [found]
    assert [(one["step"], one["is_own"]) for one in shown["checkpoints"]] == [(1, True)]


def test_a_version_of_another_line_is_not_taken_for_one_of_the_line(api: Api) -> None:
    line_with(Release(**GATE, approval=True))
    decide(to_decide(candidate()))
    with transaction() as session:
        add_line(session, "staging")
    error = "line cannot be 'staging'"
    for path, body in (
        ("deploy", {"modelVersion": V1, "strategy": "immediate"}),
        (f"approvals/{V1}/approve", {}),
        (f"approvals/{V1}/refuse", {"reason": "no"}),
        (f"versions/{V1}/reject", {"reason": "no"}),
    ):
        assert api.post(f"{path}?line=staging", 400, **body)["error"] == error
        assert api.post(f"{path}?line=nosuch", 400, **body)["error"] == "line cannot be 'nosuch'"
    assert live() == [("stable", V0, 100)]
    with transaction() as session:
        assert states(session)[V1] == "candidate"
        assert {one.detail["line"] for one in audit.listing(session)} == {"staging", "nosuch"}
    assert api.post("deploy?line=main", modelVersion="v1.0.1", strategy="immediate")["line"] == "main"
