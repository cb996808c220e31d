"""What bubblewrap does, done by the launcher itself through ctypes, after ``unshare`` made the namespaces.

Its text is given to the launcher, which runs it before it hears of any program. It needs the capabilities that
``unshare --keep-caps`` leaves it in its own user namespace, and gives up all of them.
"""

# pathlib takes as long to import as all the rest
# ruff: noqa: PTH102, PTH103, PTH106, PTH112, PTH120, PTH211

from __future__ import annotations

import ctypes
import os

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC = 2, 4, 4096, 16384
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
MOUNT_SETATTR = 442
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPSET = {"x86_64": 126, "aarch64": 91}
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_CAP_AMBIENT = 24, 38, 22, 47
CAPABILITY_VERSION = 0x20080522
BASE = b"/tmp"
"""Only a place that every machine has, to mount the new root on."""

LIBC = ctypes.CDLL(None, use_errno=True)


def confine(plan: bytes, filter_program: bytes) -> None:
    """A new root as the plan says, no capabilities, and the filter."""
    mount(b"tmpfs", BASE, b"tmpfs", MS_NOSUID | MS_NODEV, b"size=1m,mode=755")
    os.mkdir(BASE + b"/.old")
    call(LIBC.syscall, PIVOT_ROOT[os.uname().machine], BASE, BASE + b"/.old")
    os.chdir("/")
    for line in plan.split(b"\n"):
        kind, target, source = line.split(b"\t")
        STEPS[kind](target, source)
    call(LIBC.umount2, b"/.old", MNT_DETACH)
    os.rmdir("/.old")
    protect(b"/", ATTR_RDONLY | ATTR_NOSUID, 0)
    give_up()
    load(filter_program)


def call(function: ctypes._NamedFuncPointer, *arguments: object) -> None:
    """A function of libc that says -1 when it fails."""
    if function(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: {function.__name__} {arguments}")


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes) -> None:
    """A new mount."""
    call(LIBC.mount, source, target, kind, ctypes.c_ulong(flags), data)


def protect(target: bytes, attributes: int, flags: int) -> None:
    """Set attributes of a mount. Unlike a remount it takes all mounts below along, and leaves locked flags alone."""
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    call(LIBC.syscall, MOUNT_SETATTR, AT_FDCWD, target, flags, ctypes.byref(wanted), ctypes.sizeof(wanted))


def bind(target: bytes, source: bytes, attributes: int = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV) -> None:
    """What the host has at ``source``, to be read."""
    inside = b"/.old" + source
    if os.path.isdir(inside):
        os.makedirs(target, exist_ok=True)
    elif not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_EXCL, 0o444))
    mount(inside, target, b"", MS_BIND | MS_REC, b"")
    protect(target, attributes, AT_RECURSIVE)


def device(target: bytes, source: bytes) -> None:
    """A device of the host, such as /dev/null."""
    bind(target, source, ATTR_NOSUID)


def room(target: bytes, size: bytes) -> None:
    """An empty file system in memory of so many bytes; of none, it cannot be written."""
    os.makedirs(target, exist_ok=True)
    mount(b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, b"size=%s,mode=700" % (size or b"4k"))
    if not size:
        protect(target, ATTR_RDONLY, 0)


def link(target: bytes, points_to: bytes) -> None:
    """A symbolic link."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.symlink(points_to, target)


STEPS = {b"bind": bind, b"device": device, b"room": room, b"link": link}


def give_up() -> None:
    """Every capability, for good."""
    for number in range(64):
        if LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == -1:
            break
    call(LIBC.prctl, PR_CAP_AMBIENT, 4, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    call(LIBC.syscall, CAPSET[os.uname().machine], ctypes.byref(header), ctypes.byref(nothing))
    call(LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


class Filter(ctypes.Structure):
    """``struct sock_fprog``: a number of instructions, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


def load(filter_program: bytes) -> None:
    """The system call filter, for this process and all that it starts."""
    instructions = ctypes.create_string_buffer(filter_program, len(filter_program))
    whole = Filter(len(filter_program) // 8, ctypes.cast(instructions, ctypes.c_void_p))
    call(LIBC.prctl, PR_SET_SECCOMP, 2, ctypes.byref(whole), 0, 0)
