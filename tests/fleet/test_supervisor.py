from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fleet.home import Home
from fleet.process import Process, State, complete
from fleet.supervisor import BACK_OFF_SECONDS, Supervisor
from rl.errors import StartError

Eventually = Callable[..., None]
Living = Callable[[Path], list[int]]

# Lives on after SIGTERM, and so does its child.
STUBBORN = "trap '' TERM; sleep 1000 & touch stubborn; wait; wait"
KILLED = """
import sys, time
from pathlib import Path
from fleet import spawn, watchdog
from fleet.home import Home
from fleet.supervisor import Process, Supervisor

if sys.argv[4] == "other":
    spawn._LIBC, watchdog.KERNEL_ENDS_CHILDREN = None, False
home = Home.open({"RLFLEET_HOME": sys.argv[1]})
work = Path(sys.argv[2])
supervisor = Supervisor(home)
polite = Process("polite", ["sh", "-c", "sleep 1000 & touch polite; wait"], {"PATH": "/usr/bin:/bin"}, cwd=work)
stubborn = Process(
    "stubborn", ["sh", "-c", sys.argv[3]], {"PATH": "/usr/bin:/bin"}, cwd=work, stop_timeout=1.0,
    ready=(work / "stubborn").exists,
)
supervisor.start([polite, stubborn])
print("up", flush=True)
while True:
    supervisor.poll()
    time.sleep(0.05)
"""


@pytest.fixture
def work(folder: Path) -> Path:
    (folder / "work" / "here").mkdir(parents=True)
    return folder / "work" / "here"


@pytest.fixture
def home(folder: Path) -> Iterator[Home]:
    with Home.open({"RLFLEET_HOME": str(folder / "home")}) as home:
        yield home


@pytest.fixture
def supervisor(home: Home) -> Iterator[Supervisor]:
    supervisor = Supervisor(home)
    yield supervisor
    supervisor.stop()


def _shell(name: str, script: str, work: Path, *, stop_timeout: float = 60.0, **rest: object) -> Process:
    env = {"PATH": "/usr/bin:/bin"}
    return Process(name, ["sh", "-c", script], env, cwd=work, stop_timeout=stop_timeout, **rest)  # type: ignore[arg-type]


def _state(supervisor: Supervisor) -> str:
    return supervisor.status()[0].state.value


def _pids(supervisor: Supervisor) -> list[int]:
    return [status.pid for status in supervisor.status() if status.pid]


def test_processes_start_in_order_and_stop_in_reverse(supervisor: Supervisor, work: Path, home: Home) -> None:
    script = (
        "trap 'echo stop-{0} >> story; exit 0' {1}; sleep 0.2; echo start-{0} >> story; while :; do sleep 0.05; done"
    )

    def told(line: str) -> Callable[[], bool]:
        return lambda: (work / "story").exists() and line in (work / "story").read_text()

    supervisor.start(
        [
            _shell("one", script.format("one", "INT"), work, ready=told("start-one"), stop_signal=signal.SIGINT),
            _shell("two", script.format("two", "TERM"), work, ready=told("start-two")),
        ]
    )
    assert (work / "story").read_text().split() == ["start-one", "start-two"]
    assert [(s.name, s.state, s.restarts) for s in supervisor.status()] == [
        ("one", State.RUNNING, 0),
        ("two", State.RUNNING, 0),
    ]
    supervisor.stop()
    assert (work / "story").read_text().split() == ["start-one", "start-two", "stop-two", "stop-one"]
    assert [(s.state, s.pid) for s in supervisor.status()] == [(State.STOPPED, None)] * 2


def test_each_process_leads_a_session_and_writes_to_its_log(
    supervisor: Supervisor, work: Path, home: Home, eventually: Eventually
) -> None:
    supervisor.start([_shell("loud", "touch made; echo out; echo err >&2; exec sleep 1000", work)])
    (pid,) = _pids(supervisor)
    assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)
    eventually(lambda: (home.logs / "loud.log").read_text() == "out\nerr\n")
    assert (home.logs / "loud.log").stat().st_mode & 0o777 == 0o600
    assert (work / "made").stat().st_mode & 0o777 == 0o600


def test_a_process_that_ends_is_started_again_after_the_back_off(
    supervisor: Supervisor, work: Path, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    supervisor.start([_shell("worker", "sleep 1000 & wait", work), _shell("other", "exec sleep 1000", work)])
    first, other = _pids(supervisor)
    eventually(lambda: psutil.Process(first).children())
    (orphan,) = psutil.Process(first).children()
    killed = time.monotonic()
    os.kill(first, signal.SIGKILL)

    def in_state(state: State) -> Callable[[], bool]:
        def look() -> bool:
            supervisor.poll()
            return supervisor.status()[0].state is state

        return look

    with caplog.at_level(logging.WARNING):
        eventually(in_state(State.WAITING))
    assert supervisor.status()[0].pid is None
    assert "worker ended unexpectedly with status -9; starting it again in 1 s" in caplog.text
    # What the process left of its group is ended before it is started again.
    eventually(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    eventually(in_state(State.RUNNING))
    assert time.monotonic() - killed >= 1
    assert supervisor.status()[0].restarts == 1
    assert first not in _pids(supervisor)
    assert other in _pids(supervisor)


def test_the_back_off_doubles_to_thirty_seconds_and_is_forgotten_after_a_steady_minute(
    supervisor: Supervisor, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(BACK_OFF_SECONDS) == [1, 2, 4, 8, 16, 30]
    now = 1000.0
    monkeypatch.setattr("fleet.supervisor.time.monotonic", lambda: now)
    waits = []
    supervisor.start([_shell("worker", "exec sleep 1000", work)])
    for steady in (False,) * 8 + (True,):
        if steady:
            now += 61
            supervisor.poll()
        (pid,) = _pids(supervisor)
        os.kill(pid, signal.SIGKILL)
        while _state(supervisor) != "waiting":
            supervisor.poll()
        entered = now
        while _state(supervisor) == "waiting":
            now += 1
            supervisor.poll()
        supervisor.poll()
        waits.append(now - entered)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 1]


def test_a_process_that_ignores_its_signal_is_killed_with_its_group(
    supervisor: Supervisor, work: Path, living: Living, eventually: Eventually
) -> None:
    supervisor.start([_shell("stubborn", STUBBORN, work, stop_timeout=0.3, ready=(work / "stubborn").exists)])
    eventually(lambda: len(living(work.parent)) == 2)
    started = time.monotonic()
    supervisor.stop()
    assert 0.3 <= time.monotonic() - started < 25, "the default would be 30 s"
    eventually(lambda: living(work.parent) == [])


def test_a_failed_start_stops_what_was_started_and_shows_the_log(
    supervisor: Supervisor, work: Path, living: Living, home: Home, eventually: Eventually
) -> None:
    supervisor.start([_shell("before", "exec sleep 1000", work)])
    (before,) = _pids(supervisor)
    fine = _shell("fine", "exec sleep 1000", work)
    (home.logs / "bad.log").write_text("an earlier story\n")
    bad = _shell("bad", "echo cannot bind; exit 3", work, ready=lambda: False)
    with pytest.raises(StartError) as caught:
        supervisor.start([fine, bad])
    expected = f"bad ended with status 3 before it was ready; {home.logs / 'bad.log'} says:\n  cannot bind"
    assert str(caught.value) == expected
    assert _pids(supervisor) == [before]
    eventually(lambda: living(work.parent) == [before])


def test_a_process_that_is_never_ready_or_not_there_fails_the_start(supervisor: Supervisor, work: Path) -> None:
    with pytest.raises(StartError, match=r"slow was not ready after 0\.2 s; .* says: nothing"):
        supervisor.start([_shell("slow", "exec sleep 1000", work, ready=lambda: False, start_timeout=0.2)])
    with pytest.raises(StartError, match=r"/no/such/program cannot be started \(No such file or directory\)$"):
        supervisor.start([Process("missing", ["/no/such/program"], {})])
    assert supervisor.status() == []


def test_only_the_main_thread_starts_processes(supervisor: Supervisor, work: Path) -> None:
    caught: list[BaseException] = []

    def start() -> None:
        try:
            supervisor.start([_shell("one", "exec sleep 1000", work)])
        except StartError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "must be started from the main thread" in str(caught[0])


@pytest.mark.parametrize("system", ["linux", "other"])
def test_a_killed_supervisor_leaves_no_process_and_no_grandchild(
    folder: Path, work: Path, living: Living, eventually: Eventually, system: str
) -> None:
    argv = [sys.executable, "-c", KILLED, str(folder / "home"), str(work), STUBBORN, system]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as supervising:
        assert supervising.stdout
        assert supervising.stdout.readline() == b"up\n"
        eventually(lambda: len(living(work.parent)) == 4)
        watchdog = psutil.Process(supervising.pid).children()[0]
        killed = time.monotonic()
        supervising.kill()
    eventually(lambda: len(living(work.parent)) < 4)
    Home.open({"RLFLEET_HOME": str(folder / "home")}).close()
    assert living(work.parent) == []
    assert 1 <= time.monotonic() - killed < 25, "the default would be 30 s"
    eventually(lambda: not watchdog.is_running() or watchdog.status() == psutil.STATUS_ZOMBIE)


def test_a_job_of_initialisation_is_run_to_its_end(
    home: Home, work: Path, living: Living, eventually: Eventually
) -> None:
    complete(_shell("job", "echo done > done", work), home)
    assert (work / "done").read_text() == "done\n"
    with pytest.raises(StartError, match=r"job failed with status 7; .*job\.log says:\n  no luck"):
        complete(_shell("job", "echo no luck; exit 7", work), home)
    with pytest.raises(StartError, match=r"job took more than 0\.2 s"):
        complete(_shell("job", "sleep 1000", work, start_timeout=0.2), home)
    eventually(lambda: living(work.parent) == [])
