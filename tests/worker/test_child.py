from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl.errors import ChildLost
from rl.protocol import CheckpointWritten, Done, Failed, Progress, TrainCommand
from tests.worker.doubles import ROOT, MakeChild, command, is_gone, wait_until
from worker import child as worker_child
from worker.child import Child

Spoken = Progress | CheckpointWritten | Done | Failed


def events_of(child: Child, wanted: TrainCommand) -> list[Spoken]:
    """What was said until the end; not the Nones in between."""
    return [event for event in child.train(wanted) if isinstance(event, Spoken)]


def pid_of(child: Child) -> int:
    return child.wait_ready().pid


def test_a_child_is_started_when_it_is_first_needed_and_says_where_it_serves(make_child: MakeChild) -> None:
    child = make_child()
    before, ready, after = child.alive, child.wait_ready(), child.alive
    assert (before, after) == (False, True)
    assert (ready.device, ready.url) == ("cpu", "http://127.0.0.1:1")
    assert not is_gone(ready.pid)
    child.start()
    assert child.wait_ready() == ready, "one child is enough"


def test_the_command_line_names_the_device_the_state_and_the_parent(tmp_path: Path) -> None:
    words = Child("cuda:0", tmp_path)._argv
    assert words[1:] == [
        "-m",
        "gpu.child",
        "--device",
        "cuda:0",
        "--state",
        str(tmp_path),
        "--parent",
        f"{os.getpid()}",
    ]


def test_training_yields_the_events_in_order_and_ends_with_done(make_child: MakeChild) -> None:
    events = events_of(make_child(), command("progress", "checkpoint", "done"))
    assert events == [
        Progress(job=7, fence=3, step=1, total=2, metrics={"loss": 0.5}),
        CheckpointWritten(job=7, fence=3, step=2, path="/out", kind="adapter", sha256="0" * 64),
        Done(job=7, fence=3, manifest={"steps": 2}),
    ]


def test_a_silent_child_yields_none_so_that_a_lease_can_be_renewed(make_child: MakeChild) -> None:
    training = make_child().train(command("hang"))
    assert [next(training) for _ in range(3)] == [None, None, None]


def test_a_failure_is_an_event_and_the_child_lives_on(make_child: MakeChild) -> None:
    child = make_child()
    pid = pid_of(child)
    assert events_of(child, command("out-of-memory")) == [
        Failed(job=7, fence=3, error="OutOfMemory", message="12 GiB were wanted")
    ]
    assert [type(event) for event in events_of(child, command("done"))] == [Done]
    assert pid_of(child) == pid


def test_death_in_training_is_a_lost_child_that_names_its_log(make_child: MakeChild) -> None:
    child = make_child()
    with pytest.raises(ChildLost, match=r"exited with -9; see .*child-cpu\.log"):
        events_of(child, command("progress", "die"))
    assert not child.alive


def test_after_death_the_next_use_starts_another(make_child: MakeChild) -> None:
    child = make_child()
    first = pid_of(child)
    with pytest.raises(ChildLost):
        events_of(child, command("die"))
    assert [type(event) for event in events_of(child, command("done"))] == [Done]
    assert pid_of(child) != first


def test_death_between_two_commands_is_not_noticed_by_the_second(make_child: MakeChild) -> None:
    child = make_child()
    first = pid_of(child)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not child.alive)
    assert [type(event) for event in events_of(child, command("done"))] == [Done]
    assert pid_of(child) != first


@pytest.mark.parametrize("nonsense", ["say-nonsense", "say-another-schema"])
def test_a_child_that_says_what_is_no_event_is_killed(make_child: MakeChild, nonsense: str) -> None:
    child = make_child()
    pid = pid_of(child)
    with pytest.raises(ChildLost, match="which is not an event"):
        events_of(child, command(nonsense, "hang"))
    assert is_gone(pid)
    assert not child.alive


@pytest.mark.parametrize("stale", ["done-of-an-older-job", "done-of-an-older-fence"])
def test_what_is_left_over_from_a_command_given_up_is_skipped(make_child: MakeChild, stale: str) -> None:
    assert events_of(make_child(), command(stale, "done")) == [Done(job=7, fence=3, manifest={"steps": 2})]


def test_a_kill_leaves_nothing_that_the_child_started(make_child: MakeChild) -> None:
    child = make_child()
    pid = pid_of(child)
    training = child.train(command("start-another", "hang", job=0, fence=0))
    told = next(event for event in training if isinstance(event, Progress))
    other = int(told.metrics["pid"])
    assert not is_gone(other)
    child.kill()
    assert is_gone(pid)
    wait_until(lambda: is_gone(other))
    assert not child.alive
    child.kill()


def test_a_stop_asks_first_and_kills_what_does_not_listen(make_child: MakeChild) -> None:
    child = make_child()
    pid = pid_of(child)
    child.stop()
    assert is_gone(pid)

    stubborn = make_child()
    pid = pid_of(stubborn)
    os.kill(pid, signal.SIGSTOP)
    stubborn.stop(timeout=0.05)
    assert is_gone(pid)


def test_nothing_to_stop_is_nothing_to_do(make_child: MakeChild) -> None:
    child = make_child()
    child.stop()
    child.kill()
    assert not child.alive


def test_a_child_that_dies_at_once_is_lost_and_not_waited_for(make_child: MakeChild) -> None:
    started = time.monotonic()
    with pytest.raises(ChildLost, match="exited with -9"):
        make_child("die").wait_ready()
    assert time.monotonic() - started < worker_child.START_SECONDS / 2


def test_a_child_that_does_not_get_ready_is_killed(make_child: MakeChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_child, "START_SECONDS", 0.3)
    child = make_child("hang")
    child.start()
    process = child._process
    assert process is not None
    with pytest.raises(ChildLost, match="not ready within 0 s"):
        child.wait_ready()
    assert is_gone(process.pid)


COUNT = """
import sys, types
from pathlib import Path
import psutil
sys.modules["tests"] = types.ModuleType("tests")  # not the package of that name that a dependency installs
sys.modules["tests"].__path__ = ["tests"]
from tests.worker.doubles import FakeChild
child, before = FakeChild(Path(sys.argv[1])), psutil.Process().num_fds()
for _ in range(2):
    child.wait_ready()
    child.kill()
print(psutil.Process().num_fds() - before)
"""


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Counted in a process of its own: in this one others open and close theirs at any time."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", COUNT, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) <= 0
