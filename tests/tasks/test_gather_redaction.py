"""What a line takes out, or nobody agreed to, is in no table after collecting, and is shown to no judge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import tasks
from db import jobs, lines, recordings, trajectories
from db.feedback import NewFeedback
from db.recordings import Start
from db.session import transaction
from rl.config import LineConfig
from rl.errors import InvalidSettings
from rl.records import Action, Message, Trajectory, Turn
from rl.redaction import Redaction
from rl.scoring_config import Judge, Scoring
from tasks.carry import Lease
from tasks.frozen import DATASET
from tasks.gather import from_source
from tests.db.test_withdrawals import trained
from tests.planted import tables_with
from tests.tasks.conftest import HOUR, trajectory
from tests.tasks.judge_double import Stand, judging_here
from tests.tasks.rows import add_line, add_window, asked, claimed, job, one, rows
from tests.tasks.test_gather import collect, source, window_state
from worker import settings as worker_settings

pytestmark = pytest.mark.usefixtures("fresh")

MAIL, WORD = "alice.b@example.com", "hunter2"
RULES = Redaction(kinds=("email",), patterns={"word": WORD})
HOOKS = "tests.redaction_hooks"


def found() -> list[str]:
    return sorted({*tables_with(MAIL), *tables_with(WORD)} - {"lines"})


def collect_again(line: int, url: str, number: int) -> Mapping[str, Any]:
    """As ``collect``, for a source that was found to hold so many rows."""
    inputs = {"window": HOUR, "rows": number}
    claim = claimed(asked(line, kind="collect", queue="collect", inputs=inputs, config={"source": url}))
    effect = from_source(claim, Lease(claim, 60))
    with transaction() as session:
        return jobs.finish(session, claim, effect)


def put(redaction: Redaction) -> None:
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="random-qwen3", redaction=redaction))


def talking(number: int, said: str = f"{MAIL} says {WORD}", **fields: Any) -> Trajectory:
    """Trajectory ``number``, which says it wherever words can be."""
    first = trajectory(number)
    tokens = {"prompt_token_ids": [1], "token_ids": [2], "logprobs": [-0.5]}
    spoken = first.calls[0].model_copy(update={"response": Message(role="assistant", content=said), **tokens})
    action = Action(kind="SEND", parameters={"to": said}, result=[said])
    turn = Turn(turn=0, state={"note": said}, action=action, outcome={"who": said})
    metadata = {"note": said, "outcome": {"end": said}}
    changes = {"calls": [spoken], "turns": [turn], "metadata": metadata, "archetype": said} | fields
    return first.model_copy(update=changes)


def test_a_source_is_stored_without_what_was_found(tmp_path: Path) -> None:
    line = add_line(redaction=RULES)
    window = add_window(line, HOUR, "closed")
    url = source(tmp_path / "agent.jsonl", talking(0), talking(1, "BUY"))
    counts = collect(line, HOUR, url)
    # Call, archetype, state, parameters, result, outcome, and metadata twice: 8 places each.
    assert counts == {"trajectories": 2, "new": 2, "quarantined": 0, "redacted": {"email": 8, "word": 8}}
    assert found() == []
    assert rows("select call_id, token_ids is not null from rlfleet.calls order by 1") == [
        ("t0/0", False),
        ("t1/0", True),
    ]
    assert one("select archetype from rlfleet.trajectories where trajectory_id = 't0'") == ("[email] says [word]",)
    assert window_state(line, HOUR) == ("collected", None)
    assert window > 0


def test_without_redaction_the_search_finds_what_is_there(tmp_path: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    assert "redacted" not in collect(line, HOUR, source(tmp_path / "agent.jsonl", talking(0)))
    assert {"calls", "outcomes", "trajectories", "turns"} <= set(found())


def test_the_redaction_is_that_of_the_moment_of_collecting(tmp_path: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    url = source(tmp_path / "agent.jsonl", talking(0))
    put(RULES)
    assert collect(line, HOUR, url)["redacted"] == {"email": 8, "word": 8}
    assert found() == []


def test_rows_that_cannot_be_used_keep_no_words(tmp_path: Path) -> None:
    line = add_line(redaction=RULES)
    add_window(line, HOUR, "closed")
    url = source(tmp_path / "agent.jsonl", trajectory(0))
    broken = [f"not json {MAIL}", json.dumps({WORD: MAIL}), trajectory(1).model_dump_json()[:-1] + f', "{MAIL}": 1}}']
    with (tmp_path / "agent.jsonl").open("a") as file:
        file.write("\n".join(broken) + "\n")
    assert collect(line, HOUR, url)["quarantined"] == 3
    assert found() == []
    assert [row[0] for row in rows("select excerpt from rlfleet.quarantine")] == [""] * 3


@pytest.mark.parametrize(("hook", "reason"), [("refuse", "refused it"), ("fail", "raised ValueError")])
def test_what_the_hook_does_not_let_through_is_quarantined_with_the_reason(
    tmp_path: Path, hook: str, reason: str
) -> None:
    line = add_line(redaction=Redaction(kinds=("email",), hook=f"{HOOKS}:{hook}"))
    add_window(line, HOUR, "closed")
    counts = collect(line, HOUR, source(tmp_path / "agent.jsonl", talking(0)))
    assert (counts["trajectories"], counts["quarantined"]) == (0, 1)
    kept = one("select source, row, field, reason, excerpt from rlfleet.quarantine")
    assert tuple(kept) == ("redaction", "t0", "redaction.hook", f"the hook {HOOKS}:{hook} {reason}", "")
    assert found() == []
    assert rows("select 1 from rlfleet.trajectory_keys") == rows("select 1 from rlfleet.call_keys") == []


def test_a_hook_that_is_not_there_fails_the_job_and_stores_nothing(tmp_path: Path) -> None:
    line = add_line(redaction=Redaction(hook="nowhere.at_all:mask"))
    add_window(line, HOUR, "closed")
    url = source(tmp_path / "agent.jsonl", talking(0))
    with pytest.raises(InvalidSettings, match="install it wherever workers and gateways run"):
        collect(line, HOUR, url)
    job_id = asked(line, kind="collect", queue="collect", inputs={"window": HOUR, "rows": 1}, config={"source": url})
    with pytest.raises(InvalidSettings):
        tasks.collect.run(job_id)
    assert job(job_id).state == "failed"
    assert "redaction.hook = 'nowhere.at_all:mask': cannot be loaded (ModuleNotFoundError)" in job(job_id).error
    assert (window_state(line, HOUR), found()) == (("closed", None), [])


def test_a_row_without_consent_is_counted_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    url = source(tmp_path / "agent.jsonl", talking(0, consent=False), talking(1, "BUY", consent=True))
    assert collect(line, HOUR, url) == {"trajectories": 1, "new": 1, "quarantined": 1}
    kept = one("select source, row, field, reason, excerpt from rlfleet.quarantine")
    assert tuple(kept) == ("consent", "t0", "consent", "its owner refused consent", "")
    assert found() == []
    assert rows("select trajectory_id from rlfleet.trajectory_keys") == [("t1",)]


def test_a_source_that_takes_consent_back_takes_what_was_stored_with_it(tmp_path: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    path = tmp_path / "agent.jsonl"
    collect(line, HOUR, source(path, talking(0), talking(1, "BUY")))
    assert found() != []
    assert collect_again(line, source(path, talking(0, consent=False), talking(1, "BUY")), 3)["quarantined"] == 1
    assert found() == []
    assert [row[0] for row in rows("select trajectory_id from rlfleet.trajectories")] == ["t1"]
    collect_again(line, source(path, talking(0), talking(1, "BUY")), 4)
    assert found() == [], "once refused, it does not come back"


def test_what_the_agent_refused_is_not_collected_whatever_the_source_says(tmp_path: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    with transaction() as session:
        recordings.store(session, [Start("t0", "a", consent=False), NewFeedback("f", "t0", None, "n", 1.0, WORD)])
    url = source(tmp_path / "agent.jsonl", talking(0, consent=True), talking(1, "BUY"))
    assert collect(line, HOUR, url) == {"trajectories": 1, "new": 1, "quarantined": 1}
    assert found() == []
    assert rows("select trajectory_id from rlfleet.trajectory_keys") == [("t1",)]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with judging_here(monkeypatch) as found:
        yield found


def judged(line: int, *stored: Trajectory) -> Any:
    """The result of a score job by a judge on what was stored before."""
    window = add_window(line, HOUR, "collected")
    with transaction() as session:
        trajectories.insert_trajectories(session, line, window, "jsonl", stored)
    config = {"scoring": Scoring(method="judge", judge=Judge(model="judge-1")).model_dump(mode="json")}
    job_id = asked(line, inputs={"window": HOUR}, config=config)
    tasks.score.run(job_id)
    return job(job_id)


def playing(number: int, said: str, **fields: Any) -> Trajectory:
    """Without calls: a judge is then shown the turns."""
    turn = Turn(
        turn=0, state={"note": f"worth 0.{number}00 {said}"}, action=Action(kind="SEND", parameters={"to": said})
    )
    return trajectory(number).model_copy(update={"calls": [], "turns": [turn]} | fields)


def test_what_was_stored_before_is_redacted_before_a_judge_sees_it(stand: Stand) -> None:
    line = add_line(redaction=RULES)
    done = judged(line, playing(1, MAIL), playing(2, WORD))
    assert (done.state, done.result["scored"]) == ("succeeded", 2)
    shown = json.dumps(stand.asked)
    assert "[email]" in shown
    assert "[word]" in shown
    assert (MAIL in shown, WORD in shown) == (False, False)
    assert rows("select trajectory_id, score from rlfleet.scores order by 1") == [("t1", 0.1), ("t2", 0.2)]


def test_what_the_hook_does_not_let_through_is_shown_to_no_judge(stand: Stand) -> None:
    line = add_line(redaction=Redaction(hook=f"{HOOKS}:refuse"))
    done = judged(line, playing(1, "BUY"), playing(2, "SELL"), playing(3, WORD))
    assert done.result["scored"] == 2
    assert done.result["without"] == {f"it is shown to no judge: the hook {HOOKS}:refuse refused it": 1}
    assert WORD not in json.dumps(stand.asked)


def test_a_hook_that_is_not_there_asks_no_judge(stand: Stand) -> None:
    line = add_line(redaction=Redaction(hook="nowhere.at_all:mask"))
    with pytest.raises(InvalidSettings, match=r"redaction\.hook"):
        judged(line, playing(1, MAIL), playing(2, WORD))
    assert (one("select state from rlfleet.jobs").state, stand.asked) == ("failed", [])


def test_what_was_refused_after_a_training_read_it_is_shown_to_no_judge(stand: Stand) -> None:
    line = add_line()
    with transaction() as session:
        recordings.store(session, [Start("t3", "a", consent=False)])
    done = judged(line, playing(1, "BUY"), playing(2, "SELL"), playing(3, WORD))
    assert done.result["scored"] == 2
    assert [reason for reason in done.result["without"] if "did not consent" in reason] != []
    assert WORD not in json.dumps(stand.asked)


def test_the_daily_pruning_erases_what_a_training_had_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    worker_settings.settings.cache_clear()
    line = add_line()
    add_window(line, HOUR, "closed")
    collect(line, HOUR, source(tmp_path / "agent.jsonl", talking(1)))
    claim = trained()
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})
    file = tmp_path / "artifacts" / "jobs" / str(claim.job_id) / "fence-1" / DATASET
    file.parent.mkdir(parents=True)
    file.write_text(WORD)
    with transaction() as session:
        recordings.store(session, [Start("t1", "a", consent=False)])
    assert found() != []
    assert "1 refused trajectories" in tasks.prune.run(0)
    assert (found(), file.exists()) == ([], False)
