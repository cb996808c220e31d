from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import func, select

from db import decisions, dispatch, evaluations, jobs, lines, planning, results, versions
from db.evaluations import Shard
from db.jobs import Claim
from db.session import transaction
from db.tables import Checkpoint, Evaluation, Line, Verdict
from rl.config import TaskSet, digest
from rl.errors import InvalidInput, TransientError
from rl.held_out import LoggedSet
from rl.line_state import Part
from rl.planner import Want, plan
from rl.records import ids_sha256
from rl.verdicts import Verdicts
from tests.db.trained import VALIDATION, add_line, release

pytestmark = pytest.mark.usefixtures("fresh")

FOUR = TaskSet(environment="grid", split="validation", count=4)
TWICE = TaskSet(environment="grid", split="validation", count=2, samples=2, temperature=1.0)
LOGS = LoggedSet(
    split="held_out", since="2025-01-15T10:00", until="2025-01-15T12:00", share=0.1, salt="", count=9, against="logged"
)
HOUR = "2025-01-15T10:00"


def verdict(scenario: str, right: bool | None, sample: int = 0, **other: Any) -> dict[str, Any]:
    plain = {"rival_right": None, "content_hash": "c", "turns": 2, "type": "grid", "reason": None}
    return {"scenario_id": scenario, "sample": sample, "right": right} | plain | other


def several(rights: str, sample: int = 0, **other: Any) -> list[dict[str, Any]]:
    """``+`` is right, ``-`` wrong and ``?`` nothing, of the scenarios a, b, c, ..."""
    seen = {"+": True, "-": False, "?": None}
    return [verdict(chr(97 + place), seen[one], sample, **other) for place, one in enumerate(rights)]


def add(line: Line, *hashes: str, trained_on: str = HOUR) -> str:
    """The line's next version, with a checkpoint at step 10, 20, ... for each hash. Returns its name."""
    with transaction() as session:
        inputs = {"windows": [trained_on], "n": secrets.token_hex(4)}
        job = dispatch.request(session, dispatch.Spec("train", line.id, inputs=inputs, config={}, queue="gpu"))
        made = [
            versions.NewCheckpoint(10 * number, "adapter", f"/c/{sha}", "/base", sha, {"mean_score": number / 10})
            for number, sha in enumerate(hashes, start=1)
        ]
        version = versions.add(
            session,
            line=session.merge(line),
            prefix="v",
            job_id=job,
            fence=1,
            checkpoints=made,
            parent_id=None,
            base_model="b",
            manifest={},
        )
        return version.name


@pytest.fixture
def line(fresh: str) -> Line:
    with transaction() as session:
        return add_line(session)


def claim_of(line: Line, name: str, task_set: TaskSet | LoggedSet, **inputs: Any) -> Claim:
    with transaction() as session:
        asked = {"version": name, "n": secrets.token_hex(4)} | inputs
        config = task_set.model_dump(mode="json")
        job = dispatch.request(session, dispatch.Spec("evaluate", line.id, inputs=asked, config=config, queue="gpu"))
    claim = jobs.claim(job, "a test", 60)
    assert claim is not None
    return claim


def judge(
    line: Line,
    name: str,
    verdicts: Sequence[Mapping[str, Any]],
    task_set: TaskSet | LoggedSet = FOUR,
    *,
    prompt: str = "p",
    against: str = "",
    **inputs: Any,
) -> Mapping[str, Any]:
    """Store a shard as its job does; the job's result."""
    claim = claim_of(line, name, task_set, **inputs)
    shard = Shard("environment", prompt, against, [*map(dict, verdicts)])
    with transaction() as session:
        version = versions.named(session, name)[0]
        checkpoint = evaluations.checkpoint_of(session, version, inputs.get("step"))
        return jobs.finish(
            session, claim, lambda opened: evaluations.store(opened, claim, version, checkpoint, task_set, shard)
        )


def compared(
    candidate: str, rival: str | None, task_set: TaskSet | LoggedSet = FOUR, step: int | None = None
) -> Verdicts:
    with transaction() as session:
        two = [None if one is None else versions.named(session, one)[0] for one in (candidate, rival)]
        assert two[0] is not None
        return evaluations.compared(session, two[0], two[1], task_set, step)


def counted() -> tuple[int, int]:
    with transaction() as session:
        evaluated = session.scalar(select(func.count()).select_from(Evaluation)) or 0
        return evaluated, session.scalar(select(func.count()).select_from(Verdict)) or 0


def wanted(line: Line) -> list[dict[str, Any]]:
    with transaction() as session:
        state = planning.line_state(session, lines.named(session, line.name))
        return [dict(one.inputs) for one in plan(state) if isinstance(one, Want)]


def make_stable(name: str) -> None:
    with transaction() as session:
        version = versions.named(session, name)[0]
        versions.set_state(session, [version.id], "ready", "by a test")
        release(session, version)


def asked_to_decide() -> tuple[Want, Claim]:
    """The decision that the planner asks for, claimed."""
    with transaction() as session:
        row = lines.named(session, "main")
        (want,) = plan(planning.line_state(session, row))
        assert isinstance(want, Want)
        job = planning.request(session, row.id, want)
    claim = jobs.claim(job, "a test", 60)
    assert claim is not None
    return want, claim


def test_a_shard_is_stored_with_its_verdicts_and_never_overwritten(line: Line) -> None:
    name = add(line, "a" * 64)
    assert judge(line, name, several("++-+")) == {"k": 3, "n": 4, "missing": 0}
    again = judge(line, name, several("----"))
    assert again == {"k": 3, "n": 4, "missing": 0, "there_already": True, "filled": 0}
    assert counted() == (1, 4)
    assert compared(name, None).candidate == {"grid": {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}}


def test_versions_with_equal_weights_are_evaluated_once(line: Line) -> None:
    first, second = add(line, "a" * 64), add(line, "a" * 64)
    judge(line, first, several("++-+"))
    assert judge(line, second, several("++-+"))["there_already"] is True
    assert compared(second, first).candidate == compared(first, None).candidate
    with transaction() as session:
        (found,) = results.results(session, ["a" * 64])["a" * 64].values()
    assert (found.k, found.n, found.turns, found.types) == (3, 4, 2.0, {"grid": (3, 4)})


def test_scenarios_that_the_logs_hold_since_are_added_and_what_was_there_stays(line: Line) -> None:
    name = add(line, "one")
    judge(line, name, several("+-", rival_right=True), LOGS, against="logged")
    again = judge(line, name, several("-+?-", rival_right=False), LOGS, against="logged", held=2)
    assert (again["filled"], again["k"], again["n"], again["missing"]) == (2, 1, 3, 1)
    with transaction() as session:
        (row,) = session.scalars(select(Evaluation))
        found = {one.scenario_id: one.right for one in session.scalars(select(Verdict))}
        assert found == {"a": True, "b": False, "c": None, "d": False}
        assert (row.k, row.n, row.missing) == (1, 3, 1)
        assert row.ids_sha256 == ids_sha256(list(found))
    assert judge(line, name, several("-+?-", rival_right=False), LOGS, against="logged", held=4)["filled"] == 0
    plain = judge(line, name, several("+++++", rival_right=False), LOGS, against="logged")
    assert (plain["n"], plain["missing"]) == (4, 0), "without it only what was missing is filled in"


def test_only_verdicts_that_were_missing_are_filled_in(line: Line) -> None:
    name = add(line, "a" * 64)
    assert judge(line, name, several("+?-?"))["missing"] == 2
    with pytest.raises(TransientError, match="2 of 4 verdicts: at least 95% are needed"):
        compared(name, None)
    with transaction() as session:
        checkpoint = session.scalars(select(Checkpoint)).one()
        assert not evaluations.stored(session, checkpoint, FOUR, Shard("environment", "p", ""), 0, 0)
    again = judge(line, name, several("-++?"), missing=2)
    assert (again["filled"], again["k"], again["n"], again["missing"]) == (1, 2, 3, 1)
    judge(line, name, several("---+"), missing=1)
    assert compared(name, None).candidate == {"grid": {"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0}}


def test_shards_and_samples_add_up_and_a_scenario_counts_by_its_mean(line: Line) -> None:
    name, rival = add(line, "a" * 64), add(line, "b" * 64)
    for sample, (first, second) in enumerate((("+", "-"), ("-", "-"))):
        judge(line, name, [verdict("a", first == "+", sample)], TWICE, sample=sample, count=1)
        judge(line, name, [verdict("b", second == "+", sample)], TWICE, sample=sample, first=1, count=1)
        judge(line, rival, several("++", sample), TWICE, sample=sample)
    assert compared(name, rival, TWICE) == Verdicts(
        candidate={"grid": {"a": 0.5, "b": 0.0}}, stable={"grid": {"a": 1.0, "b": 1.0}}
    )
    with transaction() as session:
        found = results.results(session, ["a" * 64, "b" * 64])
    mine, theirs = (found[one * 64][digest(TWICE)] for one in "ab")
    assert (mine.k, mine.n, mine.successes) == (1, 4, (2, 0))
    assert mine.parts == (Part(0, 0, 1), Part(0, 1, 1), Part(1, 0, 1), Part(1, 1, 1))
    assert (theirs.successes, theirs.scenarios) == ((4, 4), mine.scenarios)


def test_shards_of_two_sizes_overlap_and_each_scenario_counts_once(line: Line) -> None:
    name = add(line, "a" * 64)
    judge(line, name, several("+-+-"))
    judge(line, name, [verdict("c", False), verdict("d", True)], first=2, count=2)
    assert compared(name, None).candidate == {"grid": {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}}


def test_types_are_compared_each_and_one_without_has_its_environments_name(line: Line) -> None:
    name, rival = add(line, "a" * 64), add(line, "b" * 64)
    for one in (name, rival):
        judge(line, one, [verdict("a", True, type="far"), *several("?++-", type="")[1:]])
    assert compared(name, rival).candidate == {"far": {"a": 1.0}, "grid": {"b": 1.0, "c": 1.0, "d": 0.0}}
    with transaction() as session:
        assert results.results(session, ["a" * 64])["a" * 64][digest(FOUR)].types == {"far": (1, 1), "grid": (2, 3)}


def test_broken_answers_and_episodes_at_the_turn_limit_are_counted_among_verdicts(line: Line) -> None:
    name = add(line, "a" * 64)
    reasons = ("broken output: empty; the turn limit ended it", "the turn limit ended it", "broken output: empty", None)
    rights = (False, False, None, True)
    rows = [verdict(chr(97 + at), rights[at], reason=reason) for at, reason in enumerate(reasons)]
    judge(line, name, rows)
    with transaction() as session:
        found = results.results(session, ["a" * 64])["a" * 64][digest(FOUR)]
    assert (found.n, found.broken, found.at_limit) == (3, 1, 2)


def test_results_of_two_prompts_are_not_compared_and_the_older_one_is_asked_for_again() -> None:
    with transaction() as session:
        line = add_line(session)
    stable, name = add(line, "a" * 64), add(line, "b" * 64)
    make_stable(stable)
    hundred = [verdict(str(number), number < 60) for number in range(100)]
    judge(line, stable, hundred, VALIDATION, prompt="old")
    judge(line, name, hundred, VALIDATION, prompt="new")
    with pytest.raises(TransientError, match="judged by different judges or prompts"):
        compared(name, stable, VALIDATION)
    assert wanted(line) == [{"version": stable, "prompt": "new"}]
    judge(line, stable, hundred, VALIDATION, prompt="new")
    assert [one["candidate"] for one in wanted(line)] == [name]
    assert compared(name, stable, VALIDATION).candidate["grid"]["59"] == 1.0
    assert counted() == (3, 300), "what was judged under the older prompt stays"


def test_of_two_prompts_that_both_have_the_newer_one_is_compared(line: Line) -> None:
    name, rival = add(line, "a" * 64), add(line, "b" * 64)
    for prompt, rights in (("old", "----"), ("new", "++++")):
        for one in (name, rival):
            judge(line, one, several(rights), prompt=prompt)
    assert set(compared(name, rival).stable["grid"].values()) == {1.0}


def test_a_duel_holds_both_sides_and_one_without_a_verdict_tells_nothing(line: Line) -> None:
    name = add(line, "a" * 64)
    duels = [
        verdict("win", True, rival_right=False, type=""),
        verdict("loss", False, rival_right=True, type=""),
        *(verdict(f"tie{number}", True, rival_right=True, type="") for number in range(18)),
        verdict("silent", None, type="", reason="the judge gave no answer"),
    ]
    judge(line, name, duels, LOGS, against="logged")
    found = compared(name, None, LOGS)
    assert [sum(side["logged"].values()) for side in (found.candidate, found.stable)] == [19.0, 19.0]
    assert found.candidate["logged"].keys() == found.stable["logged"].keys()
    assert "silent" not in found.candidate["logged"]
    with transaction() as session:
        one = results.results(session, ["a" * 64])["a" * 64][digest(LOGS)]
    assert (one.k, one.n, one.missing) == (10, 20, 1), "a win and half of 18 ties"


def test_every_checkpoint_of_a_version_has_results_of_its_own(line: Line) -> None:
    name = add(line, "a" * 64, "b" * 64)
    judge(line, name, several("----"), step=10)
    judge(line, name, several("++++"))
    assert set(compared(name, None, step=10).candidate["grid"].values()) == {0.0}
    assert set(compared(name, None).candidate["grid"].values()) == {1.0}
    with transaction() as session:
        (seen,) = planning.line_state(session, lines.named(session, "main")).versions
        assert (seen.checkpoints, seen.own, seen.scores) == ((10, 20), 20, {10: 0.1, 20: 0.2})
        assert [found.k for step in (10, 20) if (found := seen.on(FOUR, step))] == [0, 4]
    with pytest.raises(InvalidInput, match="was not evaluated on the decision's task set"):
        compared(add(line, "c" * 64), None)
    with pytest.raises(InvalidInput, match=r"step = 30: the training of .* wrote no checkpoint at this step"):
        compared(name, None, step=30)


def test_a_whole_decision_on_the_best_of_several_checkpoints(line: Line) -> None:
    stable, name = add(line, "a" * 64), add(line, "b" * 64, "c" * 64, "d" * 64)
    make_stable(stable)
    steps = [{"version": name, "step": step} for step in (20, 10)]
    assert wanted(line) == [{"version": name}, {"version": stable}, *steps]
    for asked, right in (({}, 30), ({"step": 20}, 95), ({"step": 10}, 62)):
        judge(line, name, [verdict(str(one), one < right) for one in range(100)], VALIDATION, **asked)
    judge(line, stable, [verdict(str(one), one < 60) for one in range(100)], VALIDATION)
    assert wanted(line) == [{"version": name, "step": 20}, {"version": stable}], "what chose one does not decide on it"
    fresh = VALIDATION.model_copy(update={"split": "held_out"})
    judge(line, name, [verdict(str(one), one < 290) for one in range(200, 300)], fresh, step=20)
    judge(line, stable, [verdict(str(one), one < 260) for one in range(200, 300)], fresh)
    want, claim = asked_to_decide()
    with transaction() as session:
        jobs.finish(session, claim, lambda opened: decisions.commit(opened, claim))
    with transaction() as session:
        version, checkpoint = versions.named(session, name)
        assert (version.state, checkpoint.step) == ("ready", 20)
    assert want.config["evidence"]["vetoed"] == [{"version": f"{name}@30", "type": "grid", "p": 0.99999}]
    assert want.config["evidence"]["tie_set"] == [f"{name}@20"]


def test_when_no_checkpoint_improves_on_the_stable_version_the_candidate_is_rejected(line: Line) -> None:
    stable, name = add(line, "a" * 64), add(line, "b" * 64, "c" * 64)
    make_stable(stable)
    for asked in ({}, {"step": 10}):
        judge(line, name, [verdict(str(one), one < 30) for one in range(100)], VALIDATION, **asked)
    judge(line, stable, [verdict(str(one), one < 60) for one in range(100)], VALIDATION)
    claim = asked_to_decide()[1]
    with transaction() as session:
        told = jobs.finish(session, claim, lambda opened: decisions.commit(opened, claim))
        assert told["reason"] == f"no improvement: {stable} itself did best on the validation scenarios"
    with transaction() as session:
        assert versions.named(session, name)[0].state == "rejected"
