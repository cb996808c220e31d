"""The mirror over real rows: what each sink has, what it lacks, and what is said while one is away."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import tasks
from db import mirrored, mirrors
from db import session as db_session
from db.session import transaction
from rl.errors import MissingDependency
from tasks.mirrored_run import key_of, run_of
from tests.db import trained
from tests.tasks.mirroring import add_version, artifacts, copied, end, forget, noted, steps
from tests.tasks.rows import one, rows

__all__ = ["artifacts"]

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_training_is_copied_while_it_runs_and_when_it_ends(artifacts: Path) -> None:
    job_id, name = add_version()
    steps(artifacts, job_id, 1, 20)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied"
    assert [row["step"] for row in copied(artifacts)["metrics"]] == list(range(1, 21))
    assert noted("jsonl") == [("training", 20, 0, False), ("version", 0, 0, True)]
    steps(artifacts, job_id, 21, 21)
    assert tasks.mirror() == "nothing to copy", "a step more is not worth a copy yet"
    steps(artifacts, job_id, 22, 22)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied"
    steps(artifacts, job_id, 23, 23)
    end(job_id)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied"
    assert tasks.mirror() == "nothing to copy"
    found = copied(artifacts)
    assert [row["step"] for row in found["metrics"]] == list(range(1, 24))
    (params,) = found["params"]
    assert (params["name"], params["state"], params["tags"]) == (name, "succeeded", [name])
    assert params["params"]["config"] == {"objective": "sft", "steps": 9, "ptx": {}}
    assert noted("tensorboard") == [("training", 23, 0, True), ("version", 0, 0, True)]


def test_what_is_said_of_a_version_later_is_copied_too(artifacts: Path) -> None:
    job_id, name = add_version()
    steps(artifacts, job_id, 1, 3)
    end(job_id)
    tasks.mirror()
    with transaction() as session:
        version = trained.versions.named(session, name)[0]
        trained.evaluate(session, version, 30, 100)
        trained.versions.set_state(session, [version.id], "ready", "passed")
        trained.release(session, version)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied"
    found = copied(artifacts)
    (evaluation,) = found["evaluation"]
    assert (evaluation["k"], evaluation["n"]) == (30, 100)
    assert [row["released"] for row in found["decision"]] == [True]
    assert found["decision"][0]["reason"] == "", "what a person wrote stays here"
    assert tasks.mirror() == "nothing to copy"


def test_steps_that_were_made_again_are_those_of_the_newest_attempt_and_its_end_is_seen(artifacts: Path) -> None:
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 5)
    end(job_id, "dead")
    tasks.mirror()
    rows(
        "update rlfleet.jobs set state = 'running', fence = 2, lease_until = now() + interval '1 hour', "
        "finished_at = null where id = :id returning 1",
        id=job_id,
    )
    steps(artifacts, job_id, 4, 6, fence=2)
    tasks.mirror()
    assert noted("jsonl")[0] == ("training", 6, 0, False)
    end(job_id)
    tasks.mirror()
    assert [row["step"] for row in copied(artifacts)["metrics"]] == list(range(1, 7))
    assert noted("jsonl")[0] == ("training", 6, 0, True)


def test_a_training_without_a_file_has_the_fewer_steps_of_its_row(artifacts: Path) -> None:
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 20)
    (artifacts / "jobs" / str(job_id) / "metrics.jsonl").unlink()
    tasks.mirror()
    assert [row["metrics"] for row in copied(artifacts)["metrics"]] == [{"loss": 1.0}, {"loss": 1 / 20}]


def test_one_sink_that_fails_waits_longer_each_time_and_stops_no_other(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 3)
    end(job_id)
    (artifacts / "metrics").mkdir()
    (artifacts / "metrics" / "tensorboard").write_text("a file where a folder should be")
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 failed"
    waits = []
    for _ in range(3):
        assert tasks.mirror() == "nothing to copy", "it is not tried before its time"
        row = one("select extract(epoch from next_at - failed_at) from rlfleet.mirrors where tries > 0 limit 1")
        waits.append(round(float(row[0])))
        rows("update rlfleet.mirrors set next_at = now() returning 1")
        assert tasks.mirror() == "tensorboard: 1 failed"
    assert waits == [1500, 3000, 3600], "longer, up to an hour"
    (behind,) = mirrors.behind()
    assert (behind.target, behind.waiting) == ("tensorboard", 2)
    assert "tensorboard" in behind.error
    (artifacts / "metrics" / "tensorboard").unlink()
    rows("update rlfleet.mirrors set next_at = now() returning 1")
    assert tasks.mirror() == "tensorboard: 1 copied"
    assert mirrors.behind() == []


def test_a_sink_that_is_turned_off_is_behind_no_more(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, _ = add_version()
    with transaction() as session:
        mirrors.failed(session, "wandb", "training", job_id, "no answer")
        mirrors.failed(session, "store", "checkpoint", 1, "no answer")
    tasks.mirror()
    assert [one.target for one in mirrors.behind()] == ["store"]


def test_wrong_settings_stop_no_other_target(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_SINKS", "mlflow")
    forget()
    monkeypatch.setattr("tasks.storing.catch_up", lambda deadline: "store: 1 sent")
    assert tasks.mirror() == "runs: wrong settings; store: 1 sent"


def test_a_store_that_fails_stops_no_sink(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(deadline: float) -> str:
        raise RuntimeError("of a client")

    monkeypatch.setattr("tasks.storing.catch_up", broken)
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 1)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 copied; checkpoints: RuntimeError"


def test_a_sink_that_fails_as_a_whole_is_behind_until_it_works(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 3)

    def broken(self: Any) -> Any:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as while_it_fails:
        while_it_fails.setattr("backends.tensorboard_sink.TensorboardSink.arrived", broken)
        assert tasks.mirror() == "jsonl: 1 copied; tensorboard: OSError"
    (behind,) = mirrors.behind()
    assert (behind.target, behind.error) == ("tensorboard", "OSError: [Errno 5] Input/output error")
    rows("update rlfleet.mirrors set next_at = now() returning 1")
    assert tasks.mirror() == "tensorboard: 1 copied"
    assert mirrors.behind() == []


def test_where_a_folder_has_another_place_every_run_goes_there_too(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the runs that end and the ones that go on none is left out, and each is copied once."""
    ended, _ = add_version()
    steps(artifacts, ended, 1, 3)
    end(ended)
    running, _ = add_version()
    steps(artifacts, running, 1, 30)
    assert tasks.mirror() == "jsonl: 2 copied; tensorboard: 2 copied"
    monkeypatch.setenv("RLFLEET_METRICS", str(tmp_path / "other"))
    forget()
    assert tasks.mirror() == "jsonl: 2 copied; tensorboard: 2 copied"
    assert tasks.mirror() == "nothing to copy"
    assert len(list((tmp_path / "other").rglob("job-*.jsonl"))) == 2
    assert len(list((tmp_path / "other" / "tensorboard").rglob("events.out.tfevents.*"))) == 2


def test_a_run_that_nothing_can_be_made_of_keeps_no_other_waiting(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, _ = add_version()
    rows("update rlfleet.jobs set state = 'dead', lease_until = null, finished_at = now() returning 1")
    sound, _ = add_version()
    steps(artifacts, sound, 1, 1)
    made = sys.modules["tasks.mirrored_run"].run_of

    def run_of(training: Any, folder: Path) -> Any:
        if training.job == broken:
            raise ValueError("of a newer version of this code")
        return made(training, folder)

    monkeypatch.setattr("tasks.mirrored_run.run_of", run_of)
    assert tasks.mirror() == "jsonl: 1 copied, 1 failed; tensorboard: 1 copied, 1 failed"
    assert tasks.mirror() == "nothing to copy"
    assert mirrors.behind()[0].error == "ValueError: of a newer version of this code"


def test_a_package_that_is_missing_is_told(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise MissingDependency("the sink tensorboard needs its package: pip install 'rlfleet[tensorboard]'")

    monkeypatch.setattr("backends.tensorboard_sink._library", missing)
    job_id, _ = add_version()
    steps(artifacts, job_id, 1, 1)
    assert tasks.mirror() == "jsonl: 1 copied; tensorboard: 1 failed"
    assert mirrors.behind()[0].error == "the sink tensorboard needs its package: pip install 'rlfleet[tensorboard]'"


def test_a_mirror_that_is_killed_after_any_copy_goes_on(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when one sink or the other has the run and no row says so; the training goes on meanwhile."""
    job_id, _ = add_version()
    last = 0
    for attempt in range(4):
        last += 10
        steps(artifacts, job_id, last - 9, last)
        db_session.dispose()
        pid = os.fork()
        if pid == 0:
            passed = [0] * (attempt % 2)

            def die(point: str, task: str = "", passed: list[int] = passed) -> None:
                if point == "after-put" and not passed:
                    os.kill(os.getpid(), signal.SIGKILL)
                passed[:] = passed[1:]

            sys.modules["tasks.mirror"].crash_point = die  # type: ignore[attr-defined]
            try:
                tasks.mirror()
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    end(job_id)
    tasks.mirror()
    assert [row["step"] for row in copied(artifacts)["metrics"]] == list(range(1, last + 1))
    from tests.backends.test_sinks import scalars

    (folder,) = (path for path in (artifacts / "metrics" / "tensorboard").rglob("job-*"))
    assert [step for step, _, _ in scalars(folder, "loss")] == list(range(1, last + 1))


def test_a_runs_name_is_its_own_for_ever(artifacts: Path) -> None:
    job_id, _ = add_version()
    with transaction() as session:
        training = mirrored.read(session, job_id)
    assert key_of(training) == run_of(training, artifacts).key
    assert key_of(training).startswith(f"job-{job_id}-")
    rows("update rlfleet.jobs set fence = 9, state = 'dead', lease_until = null where id = :id returning 1", id=job_id)
    with transaction() as session:
        assert key_of(mirrored.read(session, job_id)) == key_of(training)
