from __future__ import annotations

import os
from dataclasses import replace

import pytest

from environments import sandbox
from environments.sandbox.commands import Site
from environments.sandbox.records import Level, Limits
from environments.sandbox.running import run_at, run_each_at

SHORT = Limits(wall_seconds=0.5)


def with_room(site: Site, limits: Limits) -> Limits:
    """Without namespaces and a user of its own, a run's processes are counted with all others of this user."""
    alone = site.level is not Level.RLIMITS or os.geteuid() == 0
    return limits if alone else replace(limits, processes=4096)


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import os\nfor fd in range(100):\n try: os.close(fd)\n except OSError: pass\nwhile True: pass",
        "import signal\nfor n in (1, 2, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "import os, time\nif os.fork(): time.sleep(60)\nwhile True: pass",
    ],
    ids=["loops", "sleeps", "stops", "closes", "ignores", "forks"],
)
def test_a_program_that_does_not_end_is_ended(site: Site, program: str) -> None:
    ran = run_at(site, program, limits=with_room(site, SHORT))
    assert (ran.outcome, ran.status) == ("timeout", -9)
    assert 0.5 <= ran.seconds < 30


def test_cpu_time_runs_out(site: Site) -> None:
    ran = run_at(site, "while True: pass", limits=Limits(wall_seconds=60, cpu_seconds=1))
    assert (ran.outcome, ran.status) == ("timeout", -24)


def test_cpu_time_runs_out_for_who_ignores_it() -> None:
    program = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    ran = sandbox.run(program, limits=Limits(wall_seconds=60, cpu_seconds=1))
    assert (ran.outcome, ran.status) == ("timeout", -9)


def test_two_gibibytes_are_too_many(site: Site) -> None:
    ran = run_at(site, "x = bytearray(2 * 1024**3)")
    assert (ran.outcome, ran.stderr.splitlines()[-1]) == ("memory", "MemoryError")


def test_processes_together_may_not_hold_more_than_twice_the_memory(site: Site) -> None:
    program = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        x = bytearray(b'x') * (40 * 1024**2)
        time.sleep(60)
time.sleep(60)
"""
    limits = with_room(site, Limits(wall_seconds=30, memory_bytes=64 * 1024**2))
    ran = run_at(site, program, limits=limits)
    assert (ran.outcome, ran.status) == ("memory", -9)


FIVE = """
import mmap, os, time
born = []
while len(born) < 5 and 0 not in born: born.append(os.fork())
if 0 not in born:
    for pid in born: os.waitpid(pid, 0)
    raise SystemExit(7)
{}
for page in range(0, len(m), 4096): m[page] = 1
time.sleep(60)
"""
ROOM = Limits(wall_seconds=30, memory_bytes=128 * 1024**2, file_bytes=128 * 1024**2)


def test_memory_that_could_be_shared_is_counted_or_refused(site: Site) -> None:
    ran = run_at(site, FIVE.format("m = mmap.mmap(-1, 80 * 1024**2)"), limits=with_room(site, ROOM))
    counted = site.level is Level.RLIMITS
    assert (ran.outcome, ran.status) == (("memory", -9) if counted else ("error", 7))
    assert ran.stderr.count("PermissionError") == (0 if counted else 5)


def test_files_that_are_mapped_are_counted(held: Site) -> None:
    share = "f = open(str(os.getpid()), 'wb+'); f.truncate(80 * 1024**2); m = mmap.mmap(f.fileno(), 0)"
    ran = run_at(held, FIVE.format(share), limits=ROOM)
    assert (ran.outcome, ran.status) == ("memory", -9)


@pytest.mark.parametrize("stream", ["1", "2", "int(os.environ['RESULT_FD'])"])
def test_output_is_cut_and_ends_the_run(site: Site, stream: str) -> None:
    ran = run_at(site, f"import os\nwhile True: os.write({stream}, b'x' * 4096)", limits=Limits(output_bytes=10_000))
    assert ran.outcome == "output"
    assert sorted(map(len, (ran.stdout, ran.stderr, ran.result or ""))) == [0, 0, 10_000]


def test_output_that_just_fits_is_whole(site: Site) -> None:
    limits = Limits(output_bytes=200_000)
    ran = run_at(site, "print('x' * 199_999)", limits=limits)
    assert (ran.outcome, len(ran.stdout)) == ("ok", 200_000)
    assert run_at(site, "print('x' * 200_000)", limits=limits).outcome == "output"


def test_a_file_has_a_size_limit(site: Site) -> None:
    program = "f = open('big', 'wb')\nfor _ in range(100): f.write(b'x' * 4096); f.flush()"
    ran = run_at(site, program, limits=Limits(file_bytes=100_000))
    assert (ran.outcome, ran.stderr.splitlines()[-1]) == ("error", "OSError: [Errno 27] File too large")


@pytest.mark.parametrize("place", ["/tmp", "/work"])
def test_the_folders_have_a_size_limit(held: Site, place: str) -> None:
    program = f"for n in range(100): open(f'{place}/{{n}}', 'wb').write(b'x' * 50_000)"
    ran = run_at(held, program, limits=Limits(file_bytes=50_000))
    assert (ran.outcome, ran.stderr.splitlines()[-1]) == ("error", "OSError: [Errno 28] No space left on device")


def test_files_without_content_have_a_limit(held: Site) -> None:
    program = "n = 0\nwhile True:\n n += 1\n open(f'/tmp/{n}', 'w').close()"
    assert run_at(held, program).outcome == "output"


def test_input_that_is_never_read_is_no_harm(site: Site) -> None:
    assert run_at(site, "print(1)", "x" * 10_000_000).outcome == "ok"


def test_the_limit_of_cpu_time_holds_for_each_run_of_a_launch(site: Site) -> None:
    program = "word = input()\nwhile word == 'loop': pass"
    limits = Limits(wall_seconds=60, cpu_seconds=1)
    runs = run_each_at(site, program, ["loop", "-", "loop", "-"], limits=limits)
    assert [(run.outcome, run.status) for run in runs] == [("timeout", -24), ("ok", 0)] * 2


def test_the_limit_of_wall_time_holds_for_each_run_of_a_launch(site: Site) -> None:
    program = "import time\nif input() == 'sleep': time.sleep(60)"
    for seconds in (0.5, 3, 30):  # more where this machine was too busy for the honest ones
        runs = run_each_at(site, program, ["-", "sleep", "-"], limits=Limits(wall_seconds=seconds))
        assert all(run.outcome == "ok" or run.seconds >= seconds for run in runs)
        told = [(run.outcome, run.status) for run in runs]
        if told[0] == told[2] == ("ok", 0):
            break
    assert told == [("ok", 0), ("timeout", -9), ("ok", 0)]


def test_limits_cannot_be_raised(site: Site) -> None:
    program = """
import resource
for what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU):
    try: resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError: print('no')
"""
    assert run_at(site, program).stdout == "no\n" * 4
