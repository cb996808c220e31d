from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, text

from db import deployments, lines, releases, versions
from db.deployments import Deployed
from db.session import transaction
from db.tables import Decision, Version
from rl.config import Release as Policy
from rl.errors import InvalidInput, RlfleetError
from rl.release_plan import held_at
from rl.sequential import Rules
from tests.db.judged import GATE, HOUR, V0, V1, V2, candidate, decide, line_with, live, to_decide
from tests.db.trained import add_line, add_version, evaluate, states

pytestmark = pytest.mark.usefixtures("fresh")

POLICY = Policy(**GATE, share=40)


def deploy(name: str = V1, **how: object) -> Deployed:
    with transaction() as session:
        return deployments.deploy(session, name, "we want it", "ann", **how)  # type: ignore[arg-type]


def decisions_by_hand() -> list[Decision]:
    with transaction() as session:
        return list(session.scalars(select(Decision).where(Decision.reason == "we want it").order_by(Decision.id)))


def test_where_something_is_stable_a_deployment_is_a_canary() -> None:
    line_with(POLICY)
    candidate()
    found = deploy()
    assert (found.line, found.version, found.stage, found.share) == ("main", V1, "canary", 4)
    assert (found.changed, found.evaluated) == (True, True)
    assert live() == [("canary", V1, 4), ("stable", V0, 100)]
    (decision,) = decisions_by_hand()
    assert (decision.policy, decision.actor, decision.released) == ("person", "ann", True)
    assert decision.evidence == {"strategy": "gradual", "share": 40, "evaluated": True}
    with transaction() as session:
        assert versions.named(session, V1)[0].reason == "deployed by ann: we want it"
    assert deploy() == Deployed("main", V1, "canary", 4, found.release_id, False, True)
    assert len(decisions_by_hand()) == 1


def test_the_first_of_a_line_is_stable_at_once_at_the_lines_share() -> None:
    with transaction() as session:
        evaluate(session, add_version(session, add_line(session), HOUR), 1, 100)
    with pytest.raises(InvalidInput, match="no stable version to compare"):
        deploy(V0, strategy="gradual")
    assert deploy(V0).stage == "stable"
    assert live() == [("stable", V0, 40)]
    assert not deploy(V0).changed
    assert deploy(V0, strategy="immediate", share=60).changed
    assert live() == [("stable", V0, 60)]


def test_at_once_takes_the_stable_versions_place() -> None:
    line_with(POLICY)
    candidate()
    assert deploy(strategy="immediate", share=100).stage == "stable"
    assert live() == [("stable", V1, 100)]


def test_without_a_strategy_it_is_the_lines() -> None:
    line_with(Policy(**GATE, strategy="immediate"))
    candidate()
    assert deploy().stage == "stable"
    assert live() == [("stable", V1, 100)]


def test_an_ab_test_in_the_way_says_that_a_person_ends_it() -> None:
    line_with(POLICY)
    candidate()
    second = candidate(70)
    deploy(V1, strategy="test", share=10)
    stay = f"`rlfleet deploy {V1} --strategy immediate --reason TEXT` makes it the stable version"
    with pytest.raises(InvalidInput, match=f"{V1} is in an A/B test with 10 % .*, and a person ends it: {stay}"):
        deploy(second)


def test_a_deployment_by_hand_names_the_version_that_was_stable() -> None:
    line_with(POLICY)
    candidate()
    deploy(V1, strategy="immediate")
    deploy(V1, strategy="immediate", share=30)
    with transaction() as session:
        found = session.scalars(select(Decision.stable_id).order_by(Decision.id)).all()
        stable = session.scalars(select(Version.id).where(Version.name == V0)).one()
    assert found[-2:] == [stable, None]


def test_at_once_ends_the_versions_own_canary_and_waits_for_anothers() -> None:
    line_with(POLICY)
    candidate()
    second = candidate(70)
    deploy(V1)
    with pytest.raises(InvalidInput, match=f"{V1} is the line's canary with 4 %; wait for its end"):
        deploy(second, strategy="immediate")
    with pytest.raises(InvalidInput, match="or end it with `rlfleet rollback --line main --reason TEXT`") as refused:
        deploy(second)
    assert str(refused.value).startswith(f"version = '{second}': ")
    assert (live(), states_now()[second]) == ([("canary", V1, 4), ("stable", V0, 100)], "candidate")
    deploy(V1, strategy="immediate")
    assert live() == [("stable", V1, 40)]


def states_now() -> dict[str, str]:
    with transaction() as session:
        return states(session)


def test_a_test_keeps_its_share_until_a_person_ends_it() -> None:
    line_with(Policy(**GATE, rules=Rules(alpha=0.01)))
    candidate()
    deploy(strategy="test", share=30)
    assert live() == [("canary", V1, 30), ("stable", V0, 100)]
    with transaction() as session:
        (canary,) = releases.canaries(session)
        assert canary.plan == held_at(30, Rules(alpha=0.01))
    assert not deploy(strategy="test", share=30).changed
    deploy(strategy="immediate")
    assert live() == [("stable", V1, 100)]


def test_half_of_the_agents_unless_a_share_is_given() -> None:
    line_with(POLICY)
    candidate()
    assert deploy(strategy="test").share == 50


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"share": 101}, "1 to 100 per cent"),
        ({"share": 0}, "a canary needs agents"),
        ({"strategy": "test", "share": 100}, "a test needs agents of both versions"),
        ({"strategy": "immediate", "share": 101}, "0 to 100"),
    ],
)
def test_shares_that_cannot_be(how: dict[str, object], why: str) -> None:
    line_with(POLICY)
    candidate()
    with pytest.raises(InvalidInput, match=why):
        deploy(**how)
    assert (live(), states_now()[V1]) == ([("stable", V0, 100)], "candidate")


def stable_at(share: int) -> None:
    with transaction() as session:
        deployments.deploy(session, V0, "less of it", "ann", strategy="immediate", share=share)


@pytest.mark.parametrize("share", [60, 70])
def test_a_test_that_leaves_the_stable_version_no_agents_is_refused(share: int) -> None:
    line_with(Policy(**GATE))
    candidate()
    stable_at(60)
    why = f"the stable version of line main has 60 %, .* with {share} % none is left"
    with pytest.raises(InvalidInput, match=why) as refused:
        deploy(strategy="test", share=share)
    assert refused.value.field == "share"
    assert (live(), states_now()[V1]) == ([("stable", V0, 60)], "candidate")
    assert deploy(strategy="test", share=59).share == 59


def test_a_canary_ends_at_the_share_that_a_person_left_to_the_stable_version() -> None:
    line_with(Policy(**GATE))
    candidate()
    stable_at(60)
    assert deploy().share == 6
    with transaction() as session:
        (canary,) = releases.canaries(session)
        assert (canary.plan.share, [canary.plan.of_agents(one.share) for one in canary.plan.stages.stages]) == (
            60,
            [6, 30, 60],
        )


def test_a_canary_that_takes_all_agents_before_its_last_stage_is_refused() -> None:
    line_with(Policy(**GATE))
    candidate()
    stable_at(40)
    with pytest.raises(InvalidInput, match="with 50 % none is left to compare with"):
        deploy(share=100)
    assert deploy(share=78).share == 8


def test_the_share_is_looked_at_before_the_evaluation() -> None:
    line_with(POLICY)
    with transaction() as session:
        add_version(session, lines.named(session, "main"), HOUR)
    for strategy in ("immediate", "gradual"):
        with pytest.raises(InvalidInput, match="share"):
            deploy(strategy=strategy, share=130)


def test_an_unknown_version_is_told_those_of_its_line() -> None:
    line_with(POLICY)
    candidate()
    with transaction() as session:
        name = add_version(session, add_line(session, "shop"), HOUR).name
    with pytest.raises(InvalidInput) as refused:
        deploy("shop-v9.9.9")
    assert name in str(refused.value)
    assert V0 not in str(refused.value)


def test_a_version_without_any_evaluation_needs_a_word() -> None:
    line_with(POLICY)
    with transaction() as session:
        add_version(session, lines.named(session, "main"), HOUR)
    with pytest.raises(InvalidInput, match=r"no evaluation of it is stored; wait for one, or .* --unevaluated"):
        deploy()
    found = deploy(unevaluated=True)
    assert (found.stage, found.evaluated) == ("canary", False)
    assert decisions_by_hand()[0].evidence["evaluated"] is False


def test_a_version_that_was_rejected_is_not_deployed() -> None:
    line_with(POLICY)
    decide(to_decide(candidate(40)))
    with pytest.raises(InvalidInput, match="such a version is not released again; name another"):
        deploy(unevaluated=True)


def test_of_two_at_once_one_is_the_canary() -> None:
    line_with(POLICY)
    names = [candidate(), candidate(70)]
    said: list[str] = []

    def one(name: str) -> None:
        try:
            said.append(deploy(name).stage)
        except RlfleetError as error:
            said.append(str(error))

    threads = [threading.Thread(target=one, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(said) == 2
    assert sum(word == "canary" for word in said) == 1
    assert sum("is the line's canary" in word for word in said) == 1
    with transaction() as session:
        query = "select count(*) from rlfleet.releases where stage = 'canary'"
        assert session.execute(text(query)).scalar_one() == 1
        ready = session.scalars(select(Version.name).where(Version.state == "ready").order_by(Version.id)).all()
        assert len(ready) == 2


def test_the_same_at_once_is_one_deployment() -> None:
    line_with(POLICY)
    candidate()
    found: list[Deployed] = []
    threads = [threading.Thread(target=lambda: found.append(deploy())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(one.changed for one in found) == [False, False, False, True]
    assert len({one.release_id for one in found}) == len(decisions_by_hand()) == 1


def test_a_decision_in_flight_finds_the_version_deployed() -> None:
    line_with(POLICY)
    claim = to_decide(candidate())
    deploy()
    assert decide(claim)["undecided"] == f"{V1} is ready already"
    assert V2 not in states_now()
