"""Decisions on a line that has a stable version: a canary, by default, and one at a time."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from db import dispatch, jobs, planning, releases, versions
from db import lines as line_rows
from db.session import transaction
from db.tables import Checkpoint, Decision, Release
from rl.config import Release as Policy
from rl.errors import Tomorrow
from rl.planner import Want, plan
from rl.release_plan import Plan
from rl.stages import Stage, Stages
from tests.db.judged import GATE, HOUR, V0, V1, V2, candidate, decide, line_with, live, to_decide
from tests.db.trained import VALIDATION, add_version, evaluate, states

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_better_version_begins_as_a_canary_with_the_lines_plan() -> None:
    stages = Stages(stages=(Stage(share=25), Stage(share=100)))
    line_with(Policy(**GATE, share=40, stages=stages))
    answer = decide(to_decide(candidate()))
    assert (answer["released"], answer["stage"]) == (True, "canary")
    assert live() == [("canary", V1, 10), ("stable", V0, 100)]
    with transaction() as session:
        assert states(session) == {V0: "ready", V1: "ready"}
        (canary,) = releases.canaries(session)
        assert canary.plan == Plan(stages=stages, share=40)
        row = session.scalars(select(Release).where(Release.id == canary.release_id)).one()
        decision = session.scalars(select(Decision).where(Decision.id == row.decision_id)).one()
        assert (row.reason, decision.released, decision.policy) == (decision.reason, True, "paired-margin")


def test_a_share_of_0_has_no_canary() -> None:
    line_with(Policy(**GATE, share=0))
    assert decide(to_decide(candidate()))["stage"] == "stable"
    assert live() == [("stable", V1, 0)]


def test_the_next_decision_waits_for_the_canary_and_is_made_when_it_has_ended() -> None:
    line_with(Policy(**GATE))
    first, second = (to_decide(name) for name in (candidate(), candidate(70)))
    decide(first)
    with pytest.raises(Tomorrow, match=f"{V2} waits: {V1} is the line's canary, with 10 %"):
        decide(second)
    with transaction() as session:
        assert states(session)[V2] == "candidate"
        (canary,) = releases.canaries(session)
        releases.roll_back_canary(session, canary.release_id, "worse")
    assert decide(second)["stage"] == "canary"
    assert live() == [("canary", V2, 10), ("stable", V0, 100)]


def test_a_decision_of_before_is_outdated_once_the_canary_became_stable() -> None:
    line_with(Policy(**GATE))
    first, second = (to_decide(name) for name in (candidate(), candidate(70)))
    decide(first)
    with transaction() as session:
        (canary,) = releases.canaries(session)
        releases.finish(session, canary.release_id, "better")
    assert decide(second)["undecided"] == f"{V1} is stable now, and this was to compare with {V0}"
    assert decide(to_decide(V2))["released"]


def test_a_canary_that_was_rolled_back_is_not_decided_on_again() -> None:
    line_with(Policy(**GATE))
    decide(to_decide(candidate()))
    with transaction() as session:
        (canary,) = releases.canaries(session)
        releases.roll_back_canary(session, canary.release_id, "worse")
    with transaction() as session:
        state = planning.line_state(session, line_rows.named(session, "main"))
        assert [one for one in plan(state) if isinstance(one, Want) and one.kind == "decide"] == []
        assert states(session)[V1] == "rejected"


def test_the_checkpoint_that_the_job_names_is_the_versions_from_then_on() -> None:
    line_with(Policy(**GATE, strategy="immediate"))
    with transaction() as session:
        version = add_version(session, line_rows.named(session, "main"), HOUR)
        last = session.scalars(select(Checkpoint).where(Checkpoint.id == version.checkpoint_id)).one()
        early = Checkpoint(
            job_id=last.job_id,
            fence=1,
            step=last.step + 1,
            kind="adapter",
            uri="/early",
            base_uri="/base",
            sha256="e" * 64,
            metrics={},
        )
        session.add(early)
        session.flush()
        version.checkpoint_id = early.id
        session.flush()
        evaluate(session, version, 60, 100)
        version.checkpoint_id = last.id
        inputs = {"candidate": version.name, "run": None, "base": V0, "step": early.step}
        policy = Policy(**GATE, strategy="immediate")
        config = {"release": policy.model_dump(mode="json"), "task_set": VALIDATION.model_dump(mode="json")}
        spec = dispatch.Spec("decide", version.line_id, inputs, config, "score")
        job_id = dispatch.request(session, spec)
    claim = jobs.claim(job_id, "a test", 60)
    assert claim is not None
    assert decide(claim)["released"]
    with transaction() as session:
        assert versions.named(session, V1)[1].uri == "/early"
        assert [one.uri for one in releases.live(session, "main")] == ["/early"]
