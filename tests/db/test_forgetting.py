from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from db import calls, erasure, failures, feedback, forgetting, lines, outcomes, prune, recordings, trajectories
from db.calls import NewCall
from db.failures import NewFailure
from db.feedback import NewFeedback
from db.recordings import End, Start, Step
from db.session import transaction
from rl.errors import InvalidInput, TransientError
from rl.scoring import ScoreRow
from tests.db.kept import (
    AT,
    HOUR,
    NEXT,
    add_line,
    add_window,
    episode,
    everything,
    frozen,
    job,
    left,
    quarantined,
    run,
    version,
)

pytestmark = pytest.mark.usefixtures("fresh")

SECRET = "xyzzy-secret"


def shared(window: str = HOUR, line: str = "main") -> int:
    """A window in which alice and bob played one scenario, alice twice; what alice says is secret."""
    with transaction() as session:
        mine = [episode(f"{line}-a{n}", "alice", SECRET) for n in range(2)]
        return add_window(session, add_line(session, line), window, *mine, episode(f"{line}-b", "bob"))


def forget(agent: str = "alice", line: str | None = None, **options: Any) -> forgetting.Forgotten:
    return forgetting.forget(agent, line, len, **options)


def counted(done: forgetting.Forgotten) -> dict[str, int]:
    return {name: count for name, count in done.counts.items() if count}


TWO = {
    "judgements": 1,
    "explanations": 2,
    "feedback": 2,
    "outcomes": 2,
    "call keys": 2,
    "calls": 2,
    "turns": 2,
    "trajectories": 2,
}


def test_all_that_an_agent_said_goes_and_what_others_said_stays() -> None:
    shared()
    assert SECRET in everything()
    assert counted(forget()) == TWO
    assert SECRET not in everything()
    assert left() == {"main-b"}
    gone = "select trajectory_id from rlfleet.trajectory_keys where erased_at is not null order by 1"
    assert run(gone) == ["main-a0", "main-a1"]
    assert run("select count(*), sum(cost) from rlfleet.scores") == [(3, 0.75)]
    assert run("select answer, cost from rlfleet.judgements") == [({"erased": True}, 0.25)]
    assert counted(forget()) == {}


def test_a_dry_run_counts_the_same_and_changes_nothing() -> None:
    job_id, dataset = frozen(shared())
    made = version(job_id)
    before = everything()
    done = forget(dry_run=True)
    assert (counted(done), done.files) == (TWO, 0)
    assert (done.marked.datasets, done.marked.versions) == ({dataset}, {made.name})
    assert everything() == before


def test_only_the_named_line() -> None:
    shared()
    shared(line="other")
    forget(line="main")
    assert left() == {"main-b", "other-a0", "other-a1", "other-b"}
    with pytest.raises(InvalidInput, match="known lines: main, other"):
        forget(line="third")


def test_a_kill_between_batches_is_finished_by_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "BATCH", 1)
    _, dataset = frozen(shared())
    erase, seen = erasure.erase, []

    def dies(*given: Any) -> Counter[str]:
        counts = erase(*given)
        seen.append(given[1])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return counts

    monkeypatch.setattr(erasure, "erase", dies)
    with pytest.raises(KeyboardInterrupt):
        forget()
    assert left() == {"main-a1", "main-b"}
    assert run("select id from rlfleet.datasets where erased_at is not null") == [dataset]
    assert counted(forget())["trajectories"] == 1
    assert left() == {"main-b"}
    assert SECRET not in everything()


def test_files_that_cannot_be_removed_leave_the_batch_as_it_was() -> None:
    version(frozen(shared())[0])
    before = everything()

    def fails(jobs: Sequence[int]) -> int:
        raise PermissionError("dataset.jsonl")

    with pytest.raises(PermissionError):
        forgetting.forget("alice", None, fails)
    assert everything() == before


def report(name: str, *more: Any, agent: str = "alice") -> None:
    said = NewCall(
        f"c-{name}", name, 0, "main", "m", agent, [{"role": "user", "content": SECRET}], {"role": "assistant"}
    )
    with transaction() as session:
        events: list[Any] = [
            Start(name, agent, metadata={"note": SECRET}),
            Step(name, 0, state={"s": SECRET}, calls=[said]),
        ]
        recordings.store(session, [*events, *more])


def test_what_was_reported_and_not_collected_goes_and_cannot_be_reported_again() -> None:
    with transaction() as session:
        add_line(session)
    report("t", NewFeedback("f", "t", None, "rating", 1.0, comment=SECRET))
    assert counted(forget()) == {"recordings": 1, "calls": 1, "call keys": 1, "turns": 1, "feedback": 1}
    report("t", End("t"), NewFeedback("f2", "t", None, "rating", 1.0, comment=SECRET))
    assert SECRET not in everything()
    assert "alice" not in everything()
    assert run("select trajectory_id, consent, ended_at from rlfleet.recordings") == [("t", False, None)]


def test_calls_that_the_gateway_captured_go() -> None:
    with transaction() as session:
        add_line(session)
        said = {"role": "assistant", "content": SECRET}
        new = [NewCall(f"c{n}", f"t{n}", 0, "main", "m", agent, [], said) for n, agent in enumerate(["alice", "bob"])]
        calls.insert(session, new)
        early = NewFeedback("f", None, "c0", "rating", 1.0, comment=SECRET)
        feedback.insert(session, [early], AT)
    assert counted(forget()) == {"calls": 1, "call keys": 1, "feedback": 1}
    assert run("select call_id from rlfleet.calls") == run("select call_id from rlfleet.call_keys") == ["c1"]


def test_a_trajectory_in_which_the_agent_spoke_goes_whole() -> None:
    shared()
    with transaction() as session:
        said = {"role": "assistant", "content": "between"}
        calls.insert(session, [NewCall("c-more", "main-b", 3, "main", "m", "carol", [], said)])
    assert counted(forget("carol")) == TWO | dict.fromkeys(TWO, 1) | {"calls": 2, "call keys": 2}
    assert left() == {"main-a0", "main-a1"}


def test_excerpts_that_name_the_agent_or_its_trajectories_are_emptied() -> None:
    window = shared()
    with transaction() as session:
        line = lines.named(session, "main")
        for row, excerpt in (
            ("main-a0", "some text"),
            ("7", '{"agentId": "alice", "text": 1}'),
            ("8", '{"agentId": "alice-2"}'),
            ("9", "malice"),
        ):
            quarantined(session, line, window, row, excerpt)
    assert forget(dry_run=True).counts["excerpts"] == 2
    assert forget().counts["excerpts"] == 2
    assert run("select \"row\" from rlfleet.quarantine where excerpt <> '' order by 1") == ["8", "9"]


def test_a_name_of_an_agent_is_no_pattern() -> None:
    window = shared()
    with transaction() as session:
        line = lines.named(session, "main")
        quarantined(session, line, window, "1", 'agent "a.b*(c" spoke')
        quarantined(session, line, window, "2", "agent axb spoke")
    assert forget("a.b*(c").counts["excerpts"] == 1


def test_nothing_comes_back_by_reading_or_reporting_it_again() -> None:
    shared()
    forget()
    with transaction() as session:
        line = lines.named(session, "main")
        again = [episode(f"main-a{n}", "alice", SECRET) for n in range(2)]
        assert trajectories.insert_trajectories(session, line.id, 1, "jsonl:///logs", again) == 0
        assert outcomes.insert(session, again) == set()
        for one in again:
            new = [NewCall.of(call, trajectory_id=one.trajectory_id, line="main", agent_id="x") for call in one.calls]
            calls.insert(session, new)
            feedback.insert(session, [NewFeedback("new", one.trajectory_id, None, "n", 1.0, comment=SECRET)], AT)
    report("main-a0")
    assert SECRET not in everything()


def test_a_score_that_was_under_way_loses_its_explanation_with_the_next_prune() -> None:
    shared()
    forget()
    with transaction() as session:
        row = ScoreRow("main-a0", "judge", "1", "h", 0.5, compared_in="late group", explanation=SECRET)
        trajectories.insert_scores(session, [row.row()])
        session.execute(text("update rlfleet.judgements set request_sha256 = 'late group', answer = '{\"a\": \"b\"}'"))
    prune.old_trajectories(float("inf"))
    assert SECRET not in everything()
    assert run("select answer from rlfleet.judgements") == [{"erased": True}]


def test_a_collection_that_began_before_is_told() -> None:
    shared()
    job_id = job("collect", "running", window=NEXT)
    job("collect", "queued", window=HOUR)
    assert forget().collecting == [job_id]
    with transaction() as session:
        add_line(session, "other")
    assert forget(line="other").collecting == []


def test_an_agent_that_goes_on_speaking_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shared()
    spoken: list[str] = []
    batch = forgetting._batch

    def speaks(*given: Any, **options: Any) -> None:
        batch(*given, **options)
        spoken.append(f"t{len(spoken)}")
        with transaction() as session:
            said = NewCall(spoken[-1], spoken[-1], 0, "main", "m", "alice", [], {"role": "assistant"})
            calls.insert(session, [said])

    monkeypatch.setattr(forgetting, "_batch", speaks)
    done = forget()
    assert done.counts["trajectories"] == 2
    assert len(spoken) < 20


def test_who_holds_rows_for_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shared()
    monkeypatch.setattr(forgetting, "TRIES", 2)
    monkeypatch.setattr(forgetting, "TRY_SECONDS", 0)
    with transaction() as holder:
        holder.execute(text("select 1 from rlfleet.trajectory_keys for key share")).all()
        with pytest.raises(TransientError, match="others hold rows"):
            forget()
    assert counted(forget()) == TWO


def test_an_agent_that_is_not_known_has_nothing() -> None:
    shared()
    done = forget("nobody")
    assert (counted(done), done.marked.job_ids, done.files) == ({}, set(), 0)


def test_calls_that_failed_go_with_their_agent() -> None:
    with transaction() as session:
        add_line(session)
        add_line(session, "other")
        said = [("alice", "main"), ("alice", "other"), ("bob", "main"), ("t1", "main"), (None, "main")]
        failures.insert(
            session, [NewFailure(f"c{n}", line, "v", "", AT, unit=unit) for n, (unit, line) in enumerate(said)]
        )
    assert counted(forget(line="other", dry_run=True)) == {"failed calls": 1}
    assert counted(forget(line="main")) == {"failed calls": 1}
    assert run("select call_id from rlfleet.call_failures order by 1") == ["c1", "c2", "c3", "c4"]
    with transaction() as session:
        assert erasure.erase(session, ["t1"], AT)["failed calls"] == 1
    assert counted(forget()) == {"failed calls": 1}
    assert run("select call_id from rlfleet.call_failures order by 1") == ["c2", "c4"]
