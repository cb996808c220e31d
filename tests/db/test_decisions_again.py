"""Decisions that are asked for again: which checkpoint they are about, and what became of those that waited."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from db import approvals, checkpoints, evaluations, jobs, lines, releases, versions
from db.session import transaction
from db.tables import Decision, Version
from rl.config import Release, TaskSet
from rl.errors import InvalidInput, Tomorrow
from tests.db import chains
from tests.db.judged import GATE, HOUR, V0, V1, V2, Rates, candidate, decide, line_with, live, play, to_decide
from tests.db.test_decisions import run_with_two_versions
from tests.db.trained import add_version, release, run_of, states

pytestmark = pytest.mark.usefixtures("fresh")

SET = TaskSet(environment="g", split="validation", count=200)


@pytest.fixture
def waits(fresh: str) -> Rates:
    """``V0`` is stable; of ``V1`` step 4 was chosen, and waits for a person. ``V2`` is better than step 4 at B."""
    policy = Release(min_scenarios=1, strategy="immediate", approval=True)
    with transaction() as session:
        line = chains.add_line(session, release=policy.model_dump(), validation=SET.model_dump())
        release(session, chains.add_version(session, line, (4,)))
        chains.add_version(session, line, (4, 8), HOUR, state="candidate")
    rates = {(V0, 4): (50, 30), (V1, 4): (99, 50), (V1, 8): (60, 70), (V2, 4): (10, 65)}
    play(rates)
    claim = to_decide(V1)
    assert claim.inputs["step"] == 4
    assert decide(claim)["approval"] == "waiting"
    return rates


def own(name: str) -> int:
    with transaction() as session:
        return versions.named(session, name)[1].step


def released_meanwhile() -> None:
    with transaction() as session:
        release(session, chains.add_version(session, lines.named(session, "main"), (4,)))


def test_the_last_checkpoint_is_decided_on_after_another_one_waited_for_a_person(waits: Rates) -> None:
    released_meanwhile()
    play(waits)
    claim = to_decide(V1)
    assert claim.config["evidence"]["vetoed"][0]["version"] == f"{V1}@4"
    assert decide(claim)["approval"] == "waiting"
    with transaction() as session:
        decision = session.scalars(select(Decision).order_by(Decision.id.desc()).limit(1)).one()
    assert decision.evidence["counts"][V1]["k"] == 130, "60 + 70, the counts of step 8"
    assert own(V1) == 8


def test_every_checkpoint_is_evaluated_on_another_task_set_after_one_waited_for_a_person(waits: Rates) -> None:
    with transaction() as session:
        config = lines.config_of(lines.named(session, "main"))
        other = SET.model_copy(update={"first_seed": 1000})
        lines.put(session, "main", config.model_copy(update={"validation": other}))
    assert own(V1) == 4
    assert {(V1, 4), (V1, 8)} <= set(play(waits))


def test_a_decision_that_another_one_follows_is_superseded_and_keeps_no_checkpoint(waits: Rates) -> None:
    released_meanwhile()
    play(waits)
    decide(to_decide(V1))
    with transaction() as session:
        by_job = select(Decision.approval).where(Decision.job_id.is_not(None)).order_by(Decision.id)
        assert list(session.scalars(by_job)) == ["superseded", "waiting"]
        approvals.approve(session, V1, "ann")
        version = session.scalars(select(Version).where(Version.name == V1)).one()
        assert checkpoints.training(session, version).decided
    assert live() == [("stable", V1, 100)]


def test_a_deployment_by_hand_supersedes_the_decision_that_waited(waits: Rates) -> None:
    from db.deployments import deploy

    with transaction() as session:
        deploy(session, V1, "it is good", "ann", strategy="immediate")
    with transaction() as session, pytest.raises(InvalidInput, match="no decision about it waits for approval"):
        approvals.approve(session, V1, "ben")


def there_and_back() -> None:
    """Another version becomes stable; it is rolled back."""
    with transaction() as session:
        release(session, add_version(session, lines.named(session, "main"), state="ready"))


def back() -> None:
    with transaction() as session:
        releases.roll_back(session, lines.named(session, "main").id, None, "bad", "ann")


def test_a_candidate_is_decided_on_when_its_rival_comes_back_by_a_rollback() -> None:
    line_with(Release(**GATE, strategy="immediate"))
    claim = to_decide(candidate())
    there_and_back()
    assert decide(claim)["undecided"] == f"{V2} is stable now, and this was to compare with {V0}"
    back()
    again = to_decide(V1)
    assert again.job_id != claim.job_id
    assert decide(again)["released"]
    assert live() == [("stable", V1, 100)]


def test_a_run_is_decided_on_when_its_rival_comes_back_by_a_rollback() -> None:
    run_id = run_with_two_versions((0, 0, 100), {0: 0, 2: 1})
    claim = to_decide()
    there_and_back()
    assert "undecided" in decide(claim)
    back()
    assert decide(to_decide())["released"]
    with transaction() as session:
        assert run_of(session, run_id)[0] == "finished"


@pytest.mark.parametrize("end", ["finish", "roll back"])
def test_a_decision_that_was_put_off_is_due_when_the_canary_ends(end: str) -> None:
    line_with(Release(**GATE))
    first, second = (to_decide(name) for name in (candidate(), candidate(70)))
    decide(first)
    with pytest.raises(Tomorrow) as caught:
        decide(second)
    jobs.release(second, str(caught.value), tomorrow=True)
    assert jobs.claim(second.job_id, "a test", 60) is None
    with transaction() as session:
        (canary,) = releases.canaries(session)
        releases.advance(session, canary.release_id, 50, "well")
    assert jobs.claim(second.job_id, "a test", 60) is None, "it is still a canary"
    with transaction() as session:
        (canary,) = releases.canaries(session)
        if end == "finish":
            releases.finish(session, canary.release_id, "better")
        else:
            releases.roll_back_canary(session, canary.release_id, "worse")
        assert session.scalar(text("select count(*) from rlfleet.jobs where state = 'queued' and run_at > now()")) == 0
    assert jobs.claim(second.job_id, "a test", 60) is not None


def test_a_type_that_has_another_name_since_the_rival_was_evaluated_is_the_candidates() -> None:
    with transaction() as session:
        line = chains.add_line(session, release=Release(**GATE).model_dump(), validation=SET.model_dump())
        stable = chains.add_version(session, line, (4,))
        release(session, stable)
        chains.judge(session, stable, 4, {"": (100, 200)}, SET)
        made = chains.add_version(session, line, (4,), HOUR, state="candidate")
        chains.judge(session, made, 4, {"": (150, 200)}, SET)
        session.execute(
            text("""
                update rlfleet.verdicts v set type = case when scenario_id < '/2' then 'early' else 'late' end
                  from rlfleet.evaluations e where e.id = v.evaluation_id and e.version_id = :id
            """),
            {"id": made.id},
        )
    with transaction() as session:
        made, stable = (versions.named(session, name)[0] for name in (V1, V0))
        found = evaluations.compared(session, made, stable, SET)
    assert found.stable.keys() == found.candidate.keys() == {"early", "late"}
    sizes = {name: (len(found.candidate[name]), len(found.stable[name])) for name in ("early", "late")}
    assert sizes == {"early": (112, 112), "late": (88, 88)}, "/0, /1, /10 to /19 and /100 to /199 are early"
    assert sum(found.stable["early"].values()) + sum(found.stable["late"].values()) == 100
    assert decide(to_decide(V1))["released"]
    with transaction() as session:
        assert states(session)[V1] == "ready"
