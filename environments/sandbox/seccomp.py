"""The system call filter: a program of classic BPF, written here, for 64-bit x86 and ARM.

Everything is allowed but a list of calls that no program of a task needs, which fail with EPERM. A call of another
architecture's table, or of x32, kills the process, because its numbers mean other calls.
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import cache

REFUSED: dict[str, tuple[int | None, int | None]] = {
    # looks into or steers another process
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # makes namespaces or changes what is mounted
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "fanotify_init": (300, 262),
    # holds memory that no limit of ours counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "vmsplice": (278, 75),
    # large, privileged, or not for programs: where holes of the kernel have been
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "vhangup": (153, 58),
    # changes the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
}
"""Name to its numbers on x86_64 and aarch64; None where there is no such call."""

AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE, CLONE3, SOCKET, PRLIMIT64, IOCTL = (56, 220), (435, 435), (41, 198), (302, 261), (16, 29)
MMAP, SETSOCKOPT, SETRLIMIT = (9, 222), (54, 208), (160, 164)
NEW_NAMESPACES = 0x00000080 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
AF_UNIX = 1
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
MAP_SHARED, MAP_ANONYMOUS, MAP_HUGETLB = 0x01, 0x20, 0x40000
BUFFERS = (7, 8, 32, 33)
"""SO_SNDBUF, SO_RCVBUF, and the two for who may go beyond the system's bound."""
RLIMIT_CORE = 4
X32 = 0x40000000

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in ``struct seccomp_data``. An argument has 8 bytes, the low half first on both architectures."""
ALLOW, KILL = 0x7FFF0000, 0x80000000
FAIL = 0x00050000


def instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One ``struct sock_filter``; ``then`` and ``otherwise`` are how many instructions a comparison skips."""
    return struct.pack("<HBBI", code, then, otherwise, value)


def give(action: int) -> bytes:
    """End with an action."""
    return instruction(RETURN, action)


def when(number: int, *inside: bytes) -> bytes:
    """Do ``inside``, which ends, if the call is ``number``."""
    return instruction(EQUAL, number, 0, len(inside)) + b"".join(inside)


def argument(position: int, half: int = 0) -> bytes:
    """Look at the low 32 bits of an argument, or at the high ones: those that the kernel reads no more of need none."""
    return instruction(LOAD, ARGUMENTS + 8 * position + 4 * half)


@cache
def program(machine: str | None = None) -> bytes | None:
    """The filter for an architecture, this machine's by default; None where there is none for it."""
    machine = machine or platform.machine()
    if machine not in AUDIT_ARCHITECTURE:
        return None
    column = 0 if machine == "x86_64" else 1
    refuse, allow, absent = give(FAIL | errno.EPERM), give(ALLOW), give(FAIL | errno.ENOSYS)
    parts = [
        instruction(LOAD, ARCHITECTURE),
        instruction(EQUAL, AUDIT_ARCHITECTURE[machine], 1, 0),
        give(KILL),
        instruction(LOAD, NUMBER),
    ]
    if machine == "x86_64":
        parts += [instruction(AT_LEAST, X32, 0, 1), give(KILL)]
    parts += [when(numbers[column], refuse) for numbers in REFUSED.values() if numbers[column] is not None]  # type: ignore[arg-type]
    parts += [
        # clone3 has its flags in memory, where a filter cannot look; without it the C library calls clone.
        when(CLONE3[column], absent),
        when(CLONE[column], argument(0), instruction(ANY_BIT, NEW_NAMESPACES, 0, 1), refuse, allow),
        when(SOCKET[column], argument(0), instruction(EQUAL, AF_UNIX, 1, 0), refuse, allow),
        # Memory that can be held without being in any process's count.
        when(MMAP[column], argument(3), *both(MAP_ANONYMOUS, MAP_SHARED | MAP_HUGETLB, refuse, allow)),
        when(SETSOCKOPT[column], argument(2), *one_of(BUFFERS, refuse), allow),
        # Limits of its own process only: the launcher's are not a program's to lower. That of cores may but be read.
        when(SETRLIMIT[column], argument(0), *one_of((RLIMIT_CORE,), refuse), allow),
        when(PRLIMIT64[column], argument(0), instruction(EQUAL, 0, 1, 0), refuse, *only_read(refuse, allow)),
        when(IOCTL[column], argument(1), *one_of((TIOCSTI, TIOCLINUX), refuse), allow),
        allow,
    ]
    return b"".join(parts)


def both(first: int, second: int, action: bytes, otherwise: bytes) -> list[bytes]:
    """Do ``action`` if what is looked at has a bit of each."""
    return [instruction(ANY_BIT, first, 0, 2), instruction(ANY_BIT, second, 0, 1), action, otherwise]


def only_read(refuse: bytes, allow: bytes) -> list[bytes]:
    """Of ``prlimit64``: allow other limits than that of cores, and of that one a call without a new value."""
    null = [part for half in (0, 1) for part in (argument(2, half), instruction(EQUAL, 0, 1, 0), refuse)]
    return [argument(1), instruction(EQUAL, RLIMIT_CORE, 1, 0), allow, *null, allow]


def one_of(values: tuple[int, ...], action: bytes) -> list[bytes]:
    """Do ``action`` if what is looked at is one of the values."""
    return [part for value in values for part in (instruction(EQUAL, value, 0, 1), action)]
