"""A refusal in a row that cannot be used is a refusal: what was stored of it goes, and no words stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tasks
from db import dispatch, jobs, recordings, slots, trajectories, withdrawals
from db.recordings import Start
from db.session import transaction
from rl.scoring import by_reward
from tasks.frozen import DATASET
from tasks.training import _freeze, _thaw
from tests.db.test_withdrawals import trained
from tests.tasks.conftest import HOUR
from tests.tasks.rows import add_line, add_window, one, rows
from tests.tasks.test_gather import collect, source
from tests.tasks.test_gather_redaction import WORD, collect_again, found, talking
from worker import settings as worker_settings

pytestmark = pytest.mark.usefixtures("fresh")


def broken(number: int) -> str:
    said = json.loads(talking(number, consent=False).model_dump_json())
    return json.dumps(said | {"reward": "much"}) + "\n"


def test_a_broken_row_takes_back_what_was_stored(tmp_path: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    path = tmp_path / "agent.jsonl"
    collect(line, HOUR, source(path, talking(0), talking(1, "BUY")))
    assert found() != []
    url = source(path, talking(1, "BUY"))
    with path.open("a") as file:
        file.write(broken(0))
    assert collect_again(line, url, 3)["quarantined"] == 1
    assert found() == []
    kept = one("select source, row, field, reason, excerpt from rlfleet.quarantine")
    assert tuple(kept) == ("consent", "t0", "consent", "its owner refused consent", "")
    assert rows("select trajectory_id from rlfleet.trajectories") == [("t1",)]
    collect_again(line, source(path, talking(0), talking(1, "BUY")), 4)
    assert found() == [], "once refused, it does not come back"


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
    worker_settings.settings.cache_clear()
    return tmp_path / "artifacts"


def read_by_a_training(tmp_path: Path) -> int:
    """A job that has ended and had read t1, of which somebody then refused. Its id."""
    line = add_line()
    add_window(line, HOUR, "closed")
    collect(line, HOUR, source(tmp_path / "agent.jsonl", talking(1)))
    claim = trained()
    with transaction() as session:
        jobs.finish(session, claim, lambda _: {})
    with transaction() as session:
        recordings.store(session, [Start("t1", "a", consent=False)])
    assert found() != []
    return claim.job_id


def test_the_daily_training_is_asked_for_after_a_sweep(tmp_path: Path, artifacts: Path) -> None:
    job_id = read_by_a_training(tmp_path)
    file = artifacts / "jobs" / str(job_id) / "fence-1" / DATASET
    file.parent.mkdir(parents=True)
    file.write_text(WORD)
    tasks.plan.run("train", 86_400)
    assert (found(), file.exists()) == ([], False)


def test_a_sweep_that_fails_holds_up_neither_folders_nor_the_training(
    tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_by_a_training(tmp_path)

    def failing(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(withdrawals, "sweep", failing)
    assert tasks.prune.run(0).endswith(" folders")
    assert tasks.plan.run("train", 86_400).startswith("train: asked for")
    assert slots.is_missed("train", 86_400, 0) is False


def test_an_attempt_does_not_go_on_from_what_was_refused_meanwhile(tmp_path: Path, artifacts: Path) -> None:
    line = add_line()
    add_window(line, HOUR, "closed")
    collect(line, HOUR, source(tmp_path / "agent.jsonl", talking(1), talking(2, "BUY")))
    with transaction() as session:
        trajectories.insert_scores(session, [by_reward("t1", 0.1), by_reward("t2", 0.9)])
        spec = dispatch.Spec("train", line, {"windows": [HOUR]}, {"objective": "sft"}, "gpu")
        job_id = dispatch.request(session, spec)
    claim = jobs.claim(job_id, "a test", 60)
    assert claim is not None
    assert _thaw(claim) is False
    assert _freeze(claim, [HOUR]).manifest["trajectories"] == 2
    file = artifacts / "jobs" / str(job_id) / "fence-1" / DATASET
    file.parent.mkdir(parents=True)
    file.write_text(WORD)
    jobs.release(claim, "drained", {"path": "/state"})
    with transaction() as session:
        recordings.store(session, [Start("t1", "a", consent=False)])
    again = jobs.claim(job_id, "a test", 60)
    assert again is not None
    assert again.resume == {"path": "/state"}
    assert _thaw(again) is True
    assert not file.exists()
    assert one("select resume from rlfleet.jobs where id = :id", id=job_id) == (None,)
    assert _freeze(again, [HOUR]).manifest["skipped"] == {"its owner refused consent": 1}
    assert rows("select trajectory_id from rlfleet.dataset_trajectories") == [("t2",)]
    assert _thaw(again) is False


def test_a_sweep_that_is_not_over_goes_on_in_another_message(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(tasks.prune, "apply_async", lambda **options: sent.append(options))
    monkeypatch.setattr(withdrawals, "sweep", lambda *_: withdrawals.Swept(500, {}, is_over=False))
    assert tasks.prune.run(0).endswith("500 refused trajectories, 0 folders; more follow")
    assert sent == [{"expires": 3600}]
    monkeypatch.setattr(withdrawals, "sweep", lambda *_: withdrawals.Swept(0, {"held": None}, is_over=False))
    tasks.prune.run(0)
    assert len(sent) == 1, "while nothing can go, the next tick is soon enough"
