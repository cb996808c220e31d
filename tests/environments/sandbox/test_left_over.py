from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from environments.sandbox import probe
from environments.sandbox.commands import Site
from environments.sandbox.records import Level, Limits
from environments.sandbox.running import run_at, run_each_at

ROOT = Path(__file__).parents[3]
NAMED = "import ctypes, os, time\nctypes.CDLL(None).prctl(15, {mark!r})\n"
"""A program and all that it starts carry a name that the host can look for."""


@pytest.fixture
def mark() -> bytes:
    return b"left-" + os.urandom(4).hex().encode()


def carriers(mark: bytes) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_bytes().strip() == mark:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


DAEMONS = """
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(64):
                try: os.close(fd)
                except OSError: pass
            time.sleep(60)
        os._exit(0)
time.sleep(0.2)
print('parent ends')
"""
BOMB = """
born = 0
try:
    while True:
        if os.fork() == 0: time.sleep(60)
        born += 1
except OSError:
    print(born)
"""
WILD = "while True:\n try: os.fork()\n except OSError: pass"


def test_daemons_end_with_their_run(held: Site, mark: bytes) -> None:
    runs = run_each_at(held, NAMED.format(mark=mark) + DAEMONS, ["", ""])
    assert [(run.outcome, run.stdout) for run in runs] == [("ok", "parent ends\n")] * 2
    assert carriers(mark) == []


def test_a_fork_bomb_stops_at_the_limit(held: Site, mark: bytes) -> None:
    runs = run_each_at(held, NAMED.format(mark=mark) + BOMB, ["", ""])
    assert [run.outcome for run in runs] == ["ok", "ok"]
    assert {20 <= int(run.stdout) < 32 for run in runs} == {True}
    assert carriers(mark) == []


def test_a_wild_fork_bomb_ends_with_its_time(held: Site, mark: bytes) -> None:
    ran = run_at(held, NAMED.format(mark=mark) + WILD, limits=Limits(wall_seconds=1))
    assert ran.outcome == "timeout"
    assert carriers(mark) == []


def as_nobody(act: Callable[[], bool]) -> bool:
    """Whether ``act`` holds in a process without privileges; this one, if it has none."""
    if os.geteuid() != 0:
        return act()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os._exit(0 if act() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_fork_bomb_of_an_unprivileged_worker_stops_at_the_limit(held: Site, mark: bytes) -> None:
    def bombed() -> bool:
        ran = run_at(held, NAMED.format(mark=mark) + BOMB)
        return ran.outcome == "ok" and 20 <= int(ran.stdout) < 32

    assert as_nobody(bombed)
    assert carriers(mark) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_an_unprivileged_worker_has_the_same_sandbox(held: Site) -> None:
    program = (
        "import os\nprint(os.getuid(), os.listdir('/work'), os.path.exists('/proc'), os.path.exists('/etc/passwd'))"
    )
    assert as_nobody(lambda: run_at(held, program).stdout == "65534 [] False False\n")


def test_two_bombs_at_once_do_not_starve_each_other(held: Site) -> None:
    """Each launch has its own count of processes, though all may run as one user of the host."""
    program = "import os, time\nfor _ in range(20):\n if os.fork() == 0: time.sleep(1); os._exit(0)\nprint('all')"
    with ThreadPoolExecutor(3) as pool:
        assert {run.stdout for run in pool.map(lambda _: run_at(held, program), range(3))} == {"all\n"}


@pytest.mark.platform
def test_daemons_of_a_launch_without_namespaces_end_where_its_user_is_its_own(mark: bytes) -> None:
    site = probe.at(Level.RLIMITS)
    if isinstance(site, str) or os.geteuid() != 0:
        pytest.skip("needs root")
    assert run_at(site, NAMED.format(mark=mark) + DAEMONS).outcome == "ok"
    wait_until(lambda: carriers(mark) == [])


def test_a_killed_worker_leaves_nothing(held: Site, mark: bytes) -> None:
    program = NAMED.format(mark=mark) + "os.fork(); os.setsid() if os.getppid() != 1 else 0\nwhile True: pass"
    worker = f"""
from environments.sandbox import probe, records, running
site = probe.at(records.Level({held.level.value!r}))
running.run_at(site, {program!r}, limits=records.Limits(wall_seconds=120, cpu_seconds=100))
"""
    process = subprocess.Popen([sys.executable, "-c", worker], cwd=ROOT)
    try:
        wait_until(lambda: len(carriers(mark)) == 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: carriers(mark) == [])
    finally:
        process.kill()
        process.wait()


def test_a_launcher_that_is_gone_makes_killed_of_its_run_alone(held: Site, mark: bytes) -> None:
    """Only the host can kill it."""

    def kill() -> None:
        wait_until(lambda: carriers(mark))
        for pid in carriers(mark):
            parent = Path(f"/proc/{pid}/status").read_text().split("PPid:\t")[1].split()[0]
            os.kill(int(parent), signal.SIGKILL)

    program = NAMED.format(mark=mark) + "if input() == 'wait': time.sleep(60)\nprint('fine')"
    killer = threading.Thread(target=kill)
    killer.start()
    runs = run_each_at(held, program, ["wait", "-"])
    killer.join()
    assert [(run.outcome, run.status, run.stdout) for run in runs] == [("killed", -9, ""), ("ok", 0, "fine\n")]
    assert carriers(mark) == []


LEAVES = """
import os, sys
from pathlib import Path
from environments.sandbox import probe, records, running
site = probe.at(records.Level(sys.argv[1]))
messy = "import os; os.makedirs('a/b'); open('a/b/c', 'w'); os.symlink('/', 'a/d'); os.chmod('a', 0)"
def run():
    return [running.run_at(site, program).outcome for program in ("print(1)", "1/0", messy)]
def opened():
    return len(os.listdir("/proc/self/fd"))
run()
before = opened()
print(run(), opened() - before)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""


def test_nothing_stays_open_and_no_folder_stays(site: Site) -> None:
    """In a process of its own: what other tests left behind does not count."""
    temporary = Path(tempfile.mkdtemp())
    temporary.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-c", LEAVES, site.level.value],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert ran.stdout == "['ok', 'error', 'ok'] 0\nno child\n"
    temporary.rmdir()
