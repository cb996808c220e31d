from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

import pytest

from environments.sandbox.commands import Site
from environments.sandbox.running import run_at, run_each_at

ROOT = Path(__file__).parents[3]


def tries(*lines: str) -> str:
    """A program that tries one line after the other, and prints what comes of each."""
    return f"""
import ctypes, os, socket, sys
for line in {lines!r}:
    try:
        print('done', eval(line))
    except BaseException as error:
        print(type(error).__name__, getattr(error, 'errno', None))
"""


def failures(site: Site, *lines: str) -> list[str]:
    ran = run_at(site, tries(*lines))
    assert ran.outcome == "ok", ran
    return ran.stdout.splitlines()


def test_there_is_no_network(held: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        lines = [
            f"socket.create_connection(('127.0.0.1', {port}), 1)",
            "socket.socket(socket.AF_INET6)",
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "socket.socket(socket.AF_VSOCK)",
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        ]
        assert failures(held, *lines) == ["PermissionError 1"] * len(lines)


def test_a_socket_of_the_host_is_out_of_reach(held: Site, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as plain, socket.socket(socket.AF_UNIX) as named:
        plain.bind(str(tmp_path / "s"))
        named.bind(f"\0{tmp_path.name}-{os.getpid()}")
        for one in (plain, named):
            one.listen()
        lines = [f"socket.socket(socket.AF_UNIX).connect({one.getsockname()!r})" for one in (plain, named)]
        assert failures(held, *lines) == ["FileNotFoundError 2", "ConnectionRefusedError 111"]


def test_files_of_the_host_are_not_there(held: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    paths = [secret, Path("/etc/shadow"), Path("/etc/passwd"), ROOT / "pyproject.toml", Path(__file__), Path("/root")]
    paths += [Path("/proc"), Path("/sys"), Path("/home"), Path("/var"), Path("/run"), Path("/dev/mem"), Path("/.old")]
    assert failures(held, *(f"os.listdir({str(path)!r})" for path in paths)) == ["FileNotFoundError 2"] * len(paths)
    assert failures(held, "sorted(os.listdir('/'))")[0].startswith("done ['dev', ")


def test_nothing_can_be_written_but_two_folders(held: Site) -> None:
    program = """
import os
for folder, _, _ in os.walk('/', followlinks=False):
    try:
        open(os.path.join(folder, 'planted'), 'w').close()
    except OSError:
        continue
    print(folder)
"""
    assert sorted(run_at(held, program).stdout.split()) == ["/tmp", "/work"]


@pytest.mark.parametrize(
    "path", ["/usr/lib/planted", "/planted", "/dev/planted", "/work/../planted", "/tmp/../etc/planted"]
)
def test_writing_outside_fails(held: Site, path: str) -> None:
    assert failures(held, f"open({path!r}, 'w')")[0].split()[0] in {"OSError", "FileNotFoundError", "PermissionError"}


def test_secrets_of_the_environment_are_not_there(held: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret-of-the-parent")
    program = """
import ctypes, os
print(sorted(os.environ), ctypes.CDLL(None).getenv(b'OPENAI_API_KEY'))
for pid in ('self', '1', str(os.getppid())):
    try: print(open(f'/proc/{pid}/environ').read())
    except OSError as error: print(error.errno)
"""
    names = ["HOME", "LANG", "PATH", "PYTHONHASHSEED", "RESULT_FD", "TMPDIR"]
    assert run_at(held, program).stdout == f"{names} 0\n2\n2\n2\n"


def test_there_is_one_user_without_rights(held: Site) -> None:
    lines = ["os.setuid(0)", "os.setgid(0)", "os.setgroups([0])", "os.chown('/work', 0, 0)", "os.chroot('/tmp')"]
    assert failures(held, "os.getresuid() + os.getresgid()", *lines)[0] == f"done {(65534,) * 6}"
    assert {line.split()[0] for line in failures(held, *lines)} == {"OSError", "PermissionError"}
    program = """
import ctypes
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None)
print(libc.capget(header, sets), list(sets), libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0))
print({libc.prctl(23, number, 0, 0, 0) for number in range(41)})
"""
    no_new_privileges, filtered = 1, 2
    assert run_at(held, program).stdout == f"0 {[0] * 6} {no_new_privileges} {filtered}\n{{0}}\n"


def test_the_launcher_and_the_rest_of_the_world_cannot_be_killed(held: Site) -> None:
    program = """
import os, signal
for number in (9, 19, 15, 2, 6, 11):
    for whom in (1, os.getppid(), -1):
        try:
            if number not in (9, 19):
                signal.signal(number, signal.SIG_IGN)
            elif whom < 0:
                continue
            os.kill(whom, number)
        except OSError as error:
            print(error)
print('alive', os.getppid())
"""
    runs = run_each_at(held, program, ["", ""])
    assert [(run.outcome, run.stdout.splitlines()[-1]) for run in runs] == [("ok", "alive 1")] * 2


def test_killing_everything_kills_the_program_alone(held: Site) -> None:
    program = """
import os, time
if input() == 'kill':
    if os.fork() == 0: time.sleep(60)
    os.kill(-1, 9)
    print('alone', os.wait()[1])
    os.kill(os.getpid(), 9)
print('fine')
"""
    runs = run_each_at(held, program, ["kill", "-", "kill", "-"])
    assert [(run.outcome, run.stdout) for run in runs] == [("killed", ""), ("ok", "fine\n")] * 2


def test_the_launcher_cannot_be_looked_into_or_slowed_down(held: Site) -> None:
    libc = "(lambda n: (n, ctypes.get_errno())[1])(ctypes.CDLL(None, use_errno=True)"
    lines = [
        f"{libc}.ptrace(16, 1, 0, 0))",
        f"{libc}.process_vm_readv(1, 0, 0, 0, 0, 0))",
        f"{libc}.syscall(438, os.pidfd_open(1), 0, 0))",
        f"{libc}.setpriority(0, 1, 19))",
        f"{libc}.sched_setscheduler(1, 5, bytes(4)))",
    ]
    assert failures(held, *lines) == ["done 1"] * len(lines)
    assert failures(held, "os.sched_setaffinity(1, {0})", "os.sched_setaffinity(0, {0})") == ["PermissionError 1"] * 2
    assert failures(held, "__import__('resource').prlimit(1, 0, (0, 0))") == ["PermissionError 1"]


def test_one_run_does_not_choose_the_processors_of_the_next(held: Site) -> None:
    program = """
import os
for pid in (0, 1):
    if input():
        try: os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
        except OSError: pass
print(os.sched_getaffinity(0))
"""
    runs = run_each_at(held, program, ["1\n1", "\n\n"])
    assert [run.stdout for run in runs] == [f"{os.sched_getaffinity(0)}\n"] * 2


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="core files may not have 1 byte here")
def test_a_crash_starts_no_handler_of_the_host(held: Site) -> None:
    """The kernel hands a core to a program of the host's unless its limit is 1; not even 0 keeps it from that."""
    number = 160 if os.uname().machine == "x86_64" else 164
    lines = [
        "__import__('resource').getrlimit(4)",
        "__import__('resource').setrlimit(4, (0, 0))",
        "__import__('resource').setrlimit(4, (0, 1))",
        f"(lambda libc: (libc.syscall({number}, 4, bytes(16)), ctypes.get_errno()))(ctypes.CDLL(None, use_errno=True))",
        "__import__('resource').getrlimit(4)",
    ]
    assert failures(held, *lines) == [
        "done (1, 1)",
        "ValueError None",
        "ValueError None",
        "done (-1, 1)",
        "done (1, 1)",
    ]


def test_buffers_of_sockets_stay_as_small_as_they_are(held: Site) -> None:
    lines = [f"socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, {what}, 1 << 24)" for what in (7, 8, 32, 33)]
    assert failures(held, *lines) == ["PermissionError 1"] * 4
    assert failures(held, "socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)") == [
        "done None"
    ]


def test_what_the_sockets_of_a_process_hold_is_bounded(held: Site) -> None:
    program = """
import socket
sockets, sent = [], 0
try:
    while True: sockets += socket.socketpair()
except OSError: pass
for one in sockets:
    one.setblocking(False)
    for size in (1 << 16, 4096, 1):
        try:
            while True: sent += one.send(b'x' * size)
        except OSError: pass
print(len(sockets), sent)
"""
    count, sent = map(int, run_at(held, program).stdout.split())
    buffer = int(Path("/proc/sys/net/core/wmem_default").read_text())
    assert count == 124
    assert 0 < sent < count * (buffer + (1 << 16))


def test_the_channel_of_the_launcher_is_not_there(held: Site) -> None:
    program = """
import os, stat
for fd in range(1024):
    try: print(fd, stat.S_IFMT(os.fstat(fd).st_mode) >> 12)
    except OSError: pass
"""
    file, pipe = 8, 1
    assert run_at(held, program).stdout == f"0 {file}\n1 {pipe}\n2 {pipe}\n3 {pipe}\n"


def test_what_looks_like_the_launcher_is_text(site: Site) -> None:
    frame = (10).to_bytes(4, "big") + b"".join(len(one).to_bytes(8, "big") + one for one in (b"ok", b"0", b"0.1"))
    program = f"import os\nfor fd in (1, 2, 3): os.write(fd, {frame!r})\nos._exit(9)"
    ran = run_at(site, program)
    assert (ran.outcome, ran.status, ran.stdout) == ("error", 9, frame.decode())
    assert ran.stdout == ran.stderr == ran.result


def test_a_pickle_on_the_result_channel_stays_text(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "planted"
    attack = f"""
import os, pickle
class Evil:
    def __reduce__(self): return (os.mkdir, ({str(target)!r},))
os.write(int(os.environ['RESULT_FD']), pickle.dumps(Evil(), 0))
"""
    ran = run_at(site, attack)
    assert ran.outcome == "ok"
    assert (ran.result or "").startswith("cposix\nmkdir\n")
    assert not target.exists()


def test_a_run_cannot_forge_or_disturb_those_after_it(held: Site) -> None:
    program = """
import os, sys, gc
if input() != 'attack': print('honest'); raise SystemExit(4)
sys.excepthook = sys.exit = os._exit = lambda *_: None
for thing in gc.get_objects():
    if isinstance(thing, dict) and 'CHANNEL' in thing:
        for name in ('send', 'one_run', 'dirty', 'end_all'):
            thing[name] = lambda *_: [b'ok'] * 9
for fd in range(64):
    try: os.write(fd, b'\\0' * 64)
    except OSError: pass
if os.fork() == 0:
    os.setsid()
    while os.fork() == 0: pass
    while True:
        try: os.kill(1, 9)
        except OSError: pass
"""
    runs = run_each_at(held, program, ["attack", "-", "attack", "-"])
    assert [(run.outcome, run.stdout) for run in runs[1::2]] == [("error", "honest\n")] * 2


@pytest.mark.parametrize("keep", ["/tmp/a", "/work/a", "/tmp/.stdin"])
def test_an_attack_on_the_writable_folders_meets_only_itself(held: Site, keep: str) -> None:
    program = f"""
import os
if input() == 'attack':
    if os.path.exists({keep!r}): os.unlink({keep!r})
    os.makedirs({keep!r} + '/b/c'); os.chmod({keep!r}, 0); os.chmod(os.path.dirname({keep!r}), 0)
else:
    print(os.listdir('/work'), os.listdir('/tmp'))
"""
    runs = run_each_at(held, program, ["attack", "-", "attack", "-"])
    assert [(run.outcome, run.stdout) for run in runs[1::2]] == [("ok", "[] ['.stdin']\n")] * 2
