from __future__ import annotations

import errno
import platform
import re
import struct
from pathlib import Path

import pytest

from environments.sandbox import seccomp
from environments.sandbox.commands import Site
from environments.sandbox.running import run_at

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter says of a call, by running its instructions."""
    code = seccomp.program(machine) or b""
    arch = seccomp.AUDIT_ARCHITECTURE[machine] if architecture is None else architecture
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    program = list(struct.iter_unpack("<HBBI", code))
    at, value = 0, 0
    while True:
        kind, then, otherwise, operand = program[at]
        at += 1
        if kind == seccomp.LOAD:
            (value,) = struct.unpack_from("<I", data, operand)
        elif kind == seccomp.RETURN:
            return int(operand)
        else:
            holds = {
                seccomp.EQUAL: value == operand,
                seccomp.AT_LEAST: value >= operand,
                seccomp.ANY_BIT: bool(value & operand),
            }[kind]
            at += then if holds else otherwise


@pytest.mark.parametrize("machine", seccomp.AUDIT_ARCHITECTURE)
def test_refused_calls_fail_and_others_pass(machine: str) -> None:
    column = list(seccomp.AUDIT_ARCHITECTURE).index(machine)
    numbers = {pair[column] for pair in seccomp.REFUSED.values()} - {None}
    special = {
        pair[column] for pair in (seccomp.CLONE3, seccomp.SOCKET, seccomp.PRLIMIT64)
    }  # refused without arguments
    for number in range(600):
        wanted = EPERM if number in numbers else ALLOW
        if number not in special:
            assert verdict(machine, number) == wanted, number


@pytest.mark.parametrize("machine", seccomp.AUDIT_ARCHITECTURE)
def test_arguments_decide(machine: str) -> None:
    column = list(seccomp.AUDIT_ARCHITECTURE).index(machine)
    clone, clone3, socket, prlimit, ioctl = (
        pair[column] for pair in (seccomp.CLONE, seccomp.CLONE3, seccomp.SOCKET, seccomp.PRLIMIT64, seccomp.IOCTL)
    )
    assert verdict(machine, clone3) == ENOSYS
    assert verdict(machine, clone, 0x01200011) == ALLOW
    for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, clone, flag | 17) == EPERM
    assert [verdict(machine, socket, family) for family in (0, 1, 2, 10, 16, 17, 40)] == [EPERM, ALLOW] + [EPERM] * 5
    assert [verdict(machine, prlimit, pid, 9, 1) for pid in (0, 1, 77)] == [ALLOW, EPERM, EPERM]
    core = seccomp.RLIMIT_CORE
    assert [verdict(machine, prlimit, 0, core, new) for new in (0, 1, 1 << 32)] == [ALLOW, EPERM, EPERM]
    assert [verdict(machine, seccomp.SETRLIMIT[column], what) for what in (core, 9)] == [EPERM, ALLOW]
    shared, private, validated, anonymous, huge = 0x01, 0x02, 0x03, 0x20, 0x40000
    wanted = {
        anonymous | private: ALLOW,
        anonymous | shared: EPERM,
        anonymous | validated: EPERM,
        anonymous | private | huge: EPERM,
        shared: ALLOW,
        private: ALLOW,
    }
    for flags, told in wanted.items():
        assert verdict(machine, seccomp.MMAP[column], 0, 4096, 3, flags) == told, flags
    assert [verdict(machine, seccomp.SETSOCKOPT[column], 3, 1, what) for what in (7, 8, 32, 33, 9, 16)] == [
        EPERM
    ] * 4 + [ALLOW] * 2
    assert [verdict(machine, ioctl, 0, what) for what in (0x5401, 0x5412, 0x541C)] == [ALLOW, EPERM, EPERM]


@pytest.mark.parametrize("machine", seccomp.AUDIT_ARCHITECTURE)
def test_another_architecture_is_killed(machine: str) -> None:
    assert verdict(machine, 1, architecture=0x40000003) == KILL
    assert verdict(machine, 0x40000001) == (KILL if machine == "x86_64" else ALLOW)


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp.program("riscv64") is None


@pytest.mark.platform
@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_those_of_the_kernel(machine: str) -> None:
    path = Path(HEADERS[machine])
    if not path.exists():
        pytest.skip(f"{path} is not here")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text()))
    column = list(HEADERS).index(machine)
    table = seccomp.REFUSED | {
        "clone": seccomp.CLONE,
        "clone3": seccomp.CLONE3,
        "socket": seccomp.SOCKET,
        "prlimit64": seccomp.PRLIMIT64,
        "ioctl": seccomp.IOCTL,
        "mmap": seccomp.MMAP,
        "setsockopt": seccomp.SETSOCKOPT,
        "setrlimit": seccomp.SETRLIMIT,
    }
    ours = {name: str(pair[column]) for name, pair in table.items() if pair[column] is not None and name in known}
    assert ours == {name: known[name] for name in ours}
    assert len(ours) > 70


def test_every_call_of_the_list_is_refused_inside(held: Site) -> None:
    column = 0 if platform.machine() == "x86_64" else 1
    numbers = {pair[column]: name for name, pair in seccomp.REFUSED.items() if pair[column] is not None}
    program = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for number in {sorted(n for n in numbers if n is not None)!r}:
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1: print(number)
"""
    ran = run_at(held, program)
    assert (ran.outcome, ran.stdout) == ("ok", "")


@pytest.mark.platform
@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is of x86 alone")
def test_a_call_of_x32_kills(held: Site) -> None:
    ran = run_at(held, "import ctypes; ctypes.CDLL(None).syscall(0x40000000 + 39)")
    assert (ran.outcome, ran.status) == ("killed", -31)


def test_new_namespaces_cannot_be_made(held: Site) -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
clone = {'x86_64': 56, 'aarch64': 220}[os.uname().machine]
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000):
    print(libc.syscall(clone, flag | 17, 0, 0, 0, 0), ctypes.get_errno(), libc.unshare(flag), ctypes.get_errno())
"""
    assert run_at(held, program).stdout == "-1 1 -1 1\n" * 4
