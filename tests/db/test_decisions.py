from __future__ import annotations

from collections.abc import Mapping

import pytest
from scipy.stats import beta
from sqlalchemy import delete, select

from db import jobs, lines, releases, versions
from db.session import transaction
from db.tables import Decision, Evaluation
from rl.errors import Fenced, InvalidInput
from tests.db.judged import HOUR, V0, V1, V2, V3, decide, to_decide, wanted
from tests.db.trained import HELD_OUT, add_line, add_version, evaluate, release, run_of, start_run, states

pytestmark = pytest.mark.usefixtures("fresh")


def stored() -> list[Decision]:
    """The decisions that a job made."""
    with transaction() as session:
        return list(session.scalars(select(Decision).where(Decision.job_id.is_not(None)).order_by(Decision.id)))


def live() -> list[tuple[str, int]]:
    with transaction() as session:
        return [(one.version, one.share) for one in releases.live(session, "main")]


def released_as(name: str) -> int:
    """The id of the release by which that version is stable."""
    with transaction() as session:
        row = releases.current(session, lines.named(session, "main").id, "stable")
        assert row is not None
        assert row.version_id == versions.named(session, name)[0].id
        return row.id


def now() -> dict[str, str]:
    with transaction() as session:
        return states(session)


def stable_and_candidate(stable: int, candidate: int) -> None:
    """``V0`` is stable and ``V1`` a candidate: each right on the first so many of 100 scenarios."""
    with transaction() as session:
        line = add_line(session)
        first = add_version(session, line, state="ready")
        release(session, first)
        evaluate(session, first, stable, 100)
        evaluate(session, add_version(session, line, HOUR), candidate, 100)


def run_with_two_versions(validation: tuple[int, int, int], held_out: Mapping[int, int]) -> int:
    """The id of a run from the stable ``V0``: right verdicts of 100 on validation, and of 1 held out, by version."""
    with transaction() as session:
        line = add_line(session)
        base = add_version(session, line, state="ready")
        release(session, base)
        chain = [base, *(add_version(session, line, f"run/demo/000{number}") for number in (1, 2))]
        for version, right in zip(chain, validation, strict=True):
            evaluate(session, version, right, 100)
        for step, right in held_out.items():
            evaluate(session, chain[step], right, 1, HELD_OUT)
        return start_run(session, base)


def test_the_first_version_of_a_line_is_released_to_the_policys_share() -> None:
    with transaction() as session:
        evaluate(session, add_version(session, add_line(session), HOUR), 0, 100)
    answer = decide(to_decide())
    reason = "the first version of its line: nothing to compare with"
    assert answer == {"version": V0, "released": True, "reason": reason, "stage": "stable"}
    assert (now(), live()) == ({V0: "ready"}, [(V0, 40)])
    (decision,) = stored()
    assert (decision.stable_id, decision.released, decision.evidence["probability"]) == (None, True, None)
    assert list(decision.evidence["counts"]) == [V0]
    assert wanted("decide") == []


def test_a_better_candidate_is_released_over_the_stable_version_with_its_evidence() -> None:
    stable_and_candidate(60, 61)
    claim = to_decide()
    decide(claim)
    (decision,) = stored()
    assert (now(), live()) == ({V0: "ready", V1: "ready"}, [(V1, 40)])
    assert (decision.job_id, decision.fence, decision.policy) == (claim.job_id, 1, "paired-margin")
    # One win and no loss: the candidate's part of the differences is Beta(2, 1), above 1/2 with 1 - 1/4.
    assert decision.reason == (
        "of 100 scenarios only the candidate was right on 1, only the stable version on 0: "
        "P(better by more than 0) = 0.7500, at least 0.7"
    )
    evidence = decision.evidence
    assert evidence["probability"] == pytest.approx(0.75, abs=1e-6)
    assert evidence["would_change"] == "0 or fewer scenarios that only the candidate got right"
    assert evidence["cells"] == {"both": 60.0, "only_candidate": 1.0, "only_stable": 0.0, "neither": 39.0}
    low, mean, high = evidence["difference"]
    assert (mean, low < mean < high) == (pytest.approx(1 / 104), True)
    assert {name: (one["k"], one["n"]) for name, one in evidence["counts"].items()} == {V1: (61, 100), V0: (60, 100)}
    assert evidence["counts"][V1]["interval"] == pytest.approx(list(beta.ppf([0.1, 0.9], 61.5, 39.5)))
    (one,) = evidence["environments"]
    assert (one["environment"], one["candidate"]["k"], one["stable"]["k"]) == ("gridworld", 61, 60)
    assert (evidence["gate"]["margin"], evidence["gate"]["min_probability"]) == (0.0, 0.7)


def test_a_worse_candidate_is_rejected_with_the_reason_and_its_evidence() -> None:
    stable_and_candidate(61, 60)
    answer = decide(to_decide())
    reason = (
        "of 100 scenarios only the candidate was right on 0, only the stable version on 1: "
        "P(better by more than 0) = 0.2500, below 0.7"
    )
    assert answer == {"version": V1, "released": False, "reason": reason}
    assert (now(), live()) == ({V0: "ready", V1: "rejected"}, [(V0, 100)])
    with transaction() as session:
        assert versions.named(session, V1)[0].reason == reason
    (decision,) = stored()
    assert (decision.released, decision.reason) == (False, reason)
    assert decision.evidence["probability"] == pytest.approx(0.25, abs=1e-6)
    # Beta(1 + w, 2) is above 1/2 with .5, .6875 and .8125 for w = 1, 2 and 3.
    assert decision.evidence["would_change"] == "3 or more scenarios that only the candidate got right"
    assert wanted("decide") == []


def test_nothing_is_decided_against_a_version_that_is_no_longer_stable_and_another_decision_is_asked_for() -> None:
    stable_and_candidate(60, 61)
    claim = to_decide()
    with transaction() as session:
        other = add_version(session, lines.named(session, "main"), state="ready")
        release(session, other)
    answer = decide(claim)
    assert answer == {"candidate": V1, "undecided": f"{V2} is stable now, and this was to compare with {V0}"}
    assert (stored(), now()[V1], live()) == ([], "candidate", [(V2, 100)])

    assert [want.inputs for want in wanted("evaluate")] == [{"version": V2}]
    assert wanted("decide") == []
    with transaction() as session:
        evaluate(session, other, 60, 100)
    again = to_decide()
    assert again.job_id != claim.job_id
    assert again.inputs == {"candidate": V1, "run": None, "base": V2, "release": released_as(V2)}
    assert decide(again)["released"] is True
    assert live() == [(V1, 40)]


@pytest.mark.parametrize("state", ["ready", "rejected"])
def test_nothing_is_decided_on_a_candidate_whose_fate_is_known(state: str) -> None:
    stable_and_candidate(60, 61)
    claim = to_decide()
    with transaction() as session:
        versions.set_state(session, [versions.named(session, V1)[0].id], state, "by a person")
    assert decide(claim) == {"candidate": V1, "undecided": f"{V1} is {state} already"}
    assert (stored(), now()[V1], live()) == ([], state, [(V0, 100)])


def test_a_decision_of_a_lost_lease_leaves_nothing() -> None:
    stable_and_candidate(60, 61)
    claim = to_decide()
    jobs.fail(claim, "lost", retry=False)
    with pytest.raises(Fenced):
        decide(claim)
    assert (stored(), now()[V1], live()) == ([], "candidate", [(V0, 100)])


def test_a_runs_decision_releases_the_best_rejects_the_other_candidates_and_ends_the_run() -> None:
    run_id = run_with_two_versions((0, 0, 100), {0: 0, 2: 1})
    decide(to_decide())
    assert now() == {V0: "ready", V1: "rejected", V2: "ready"}
    assert live() == [(V2, 40)]
    (decision,) = stored()
    assert decision.run_id == run_id
    assert decision.evidence["selection"]["validation"] == {V0: [0, 100], V1: [0, 100], V2: [100, 100]}
    with transaction() as session:
        assert versions.named(session, V1)[0].reason == f"{V2} was chosen among the run's versions"
        assert run_of(session, run_id) == ("finished", decision.reason)
    assert wanted("decide") == []


def test_a_run_in_which_the_base_did_best_rejects_its_candidates_and_the_base_stays_ready() -> None:
    run_id = run_with_two_versions((100, 0, 0), {0: 1})
    answer = decide(to_decide())
    reason = f"no improvement: {V0} itself did best on the validation scenarios"
    assert answer == {"version": V0, "released": False, "reason": reason}
    assert now() == {V0: "ready", V1: "rejected", V2: "rejected"}
    assert live() == [(V0, 100)]
    with transaction() as session:
        assert run_of(session, run_id) == ("finished", reason)


def test_a_version_of_the_run_that_a_person_made_ready_is_not_rejected() -> None:
    run_with_two_versions((0, 0, 100), {0: 0, 2: 1})
    with transaction() as session:
        versions.set_state(session, [versions.named(session, V1)[0].id], "ready", "by a person")
    decide(to_decide())
    assert now() == {V0: "ready", V1: "ready", V2: "ready"}


def test_a_run_is_undecided_when_another_version_became_stable_and_is_compared_with_that_next() -> None:
    run_id = run_with_two_versions((0, 0, 100), {0: 0, 2: 1})
    claim = to_decide()
    with transaction() as session:
        other = add_version(session, lines.named(session, "main"), HOUR, state="ready")
        release(session, other)
    answer = decide(claim)
    assert answer == {"candidate": V2, "undecided": f"{V3} is stable now, and this was to compare with {V0}"}
    assert stored() == []
    with transaction() as session:
        assert run_of(session, run_id) == ("running", None)
    assert now() == {V0: "ready", V1: "candidate", V2: "candidate", V3: "ready"}

    assert [want.inputs for want in wanted("evaluate")] == [{"version": V3}]
    with transaction() as session:
        evaluate(session, other, 0, 1, HELD_OUT)
    again = to_decide()
    assert again.inputs == {"candidate": V2, "run": "demo", "base": V3, "release": released_as(V3)}
    decide(again)
    assert live() == [(V2, 40)]


def test_a_run_that_was_stopped_is_not_decided() -> None:
    run_id = run_with_two_versions((0, 0, 100), {0: 0, 2: 1})
    claim = to_decide()
    with transaction() as session:
        lines.end_run(session, run_id, "stopped", "by a person")
    assert decide(claim) == {"candidate": V2, "undecided": "run demo has ended"}
    assert (stored(), live()) == ([], [(V0, 100)])


def test_a_version_that_was_not_evaluated_on_the_task_set_is_refused() -> None:
    stable_and_candidate(60, 61)
    claim = to_decide()
    with transaction() as session:
        session.execute(delete(Evaluation))
    with pytest.raises(InvalidInput, match="this version was not evaluated on the decision's task set"):
        decide(claim)
