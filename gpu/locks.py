"""Who owns which device: one file lock a device, all of a set or none of it.

A lock is the kernel's (flock): it goes when its process goes, however that ends. A GPU's lock lies in a folder of the
machine and bears the GPU's own id, so that neither two fleets nor two users share one by accident; a CPU may be
shared, so its lock lies in the fleet's state folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from rl.errors import StartError

LOCK_SECONDS = 30.0
LOCK_TICK_SECONDS = 0.1
FOLDER = "rlfleet-devices"
CUDA = ("cuda", "gpu")
_held: set[int] = set()


def lock_device(
    state: Path,
    device: str,
    seconds: float = LOCK_SECONDS,
    variables: Mapping[str, str] = os.environ,
) -> contextlib.ExitStack:
    """The exclusive lock on ``device``, one name or several joined with ``+``; held until it is closed.

    Several are taken in one order that all processes share. While another process has any of them, none of the
    others is kept. ``variables`` is the environment: ``CUDA_VISIBLE_DEVICES`` names the GPUs.

    Raises:
        StartError: another process kept one for ``seconds``, or the name is no set of devices.
    """
    paths = sorted(set(lock_paths(state, device, variables)))
    for path in paths:
        _make_folder(path.parent)
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.ExitStack() as held:
            busy = _take_all(paths, held)
            if busy is None:
                return held.pop_all()
        if time.monotonic() > deadline:
            raise StartError(f"{device} is in use by process {_owner(busy)}; stop it, or see {busy}")
        time.sleep(LOCK_TICK_SECONDS)


def descriptors() -> list[int]:
    """The open files of the locks that this process has; a process that inherits them keeps the locks as long."""
    return sorted(_held)


def names(device: str) -> list[str]:
    """The devices of a set.

    Raises:
        StartError: one is empty or named twice, or a CPU is joined with others.
    """
    found = device.split("+")
    of_cpu = [name.startswith("cpu") for name in found]
    mixed = any(of_cpu) and not all(of_cpu)
    if not all(found) or len(set(found)) < len(found) or mixed or ("cpu" in found and len(found) > 1):
        raise StartError(f"device = {device!r}: write cpu, or GPUs joined with +, each once, such as gpu0+gpu1")
    return found


def lock_paths(state: Path, device: str, variables: Mapping[str, str]) -> list[Path]:
    """The lock file of each device of a set, in the set's order.

    ``gpu<n>`` names of a plan go with the entries of ``CUDA_VISIBLE_DEVICES`` in order, ``cuda:<n>`` is its n-th;
    where the variable is not set, names stand for themselves.

    Raises:
        StartError: the variable does not name as many GPUs as the set has.
    """
    wanted = names(device)
    if not all(name.startswith(CUDA) for name in wanted):
        return [state / "devices" / f"{name}.lock" for name in wanted]
    visible = [one.strip() for one in variables.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    if visible and all(name.startswith("gpu") for name in wanted) and len(visible) != len(wanted):
        raise StartError(f"device = {device!r}, CUDA_VISIBLE_DEVICES = {','.join(visible)!r}: name each GPU in both")
    found = [_gpu(name, place, visible) for place, name in enumerate(wanted)] if visible else wanted
    folder = Path(tempfile.gettempdir()) / FOLDER
    return [folder / f"{one.replace(':', '-').replace('/', '-')}.lock" for one in found]


def _gpu(name: str, place: int, visible: Sequence[str]) -> str:
    """The id of the GPU called ``name``, which stands at ``place`` in its set."""
    number = name.partition(":")[2]
    index = int(number) if number.isdecimal() else place
    if index >= len(visible):
        raise StartError(f"device = {name!r}, CUDA_VISIBLE_DEVICES = {','.join(visible)!r}: it names no such GPU")
    return visible[index]


def _take_all(paths: Sequence[Path], held: contextlib.ExitStack) -> Path | None:
    """Lock every file into ``held``; or the first that somebody else has."""
    files = []
    for path in paths:
        try:
            files.append(held.enter_context(_open(path)))
            fcntl.flock(files[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the latter: another user is just making it
            return path
        except OSError as error:
            raise StartError(f"{path} cannot be locked: {error.strerror}; remove it") from error
    for file in files:
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        _held.add(file.fileno())
        held.callback(_held.discard, file.fileno())
    return None


def _open(path: Path) -> BinaryIO:
    """The lock file, made for all users where it is missing.

    It is opened before it is made: the kernel refuses O_CREAT on another user's file in a sticky folder. Links are
    not followed, because anybody may put one there.
    """
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+b")
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(descriptor, 0o666)
            os.close(descriptor)
    return _open(path)


def _make_folder(folder: Path) -> None:
    if folder.name != FOLDER:
        folder.mkdir(parents=True, exist_ok=True)
        return
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)


def _owner(path: Path) -> str:
    """The process that wrote its id into a lock file."""
    try:
        return path.read_text(errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"
