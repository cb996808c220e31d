"""Which Python runs the programs, and what of the host it needs to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ASK = """
import json, marshal, os, sys, sysconfig
library = os.path.join(sysconfig.get_config_var("LIBDIR") or "", sysconfig.get_config_var("LDLIBRARY") or "")
paths = [os.path.realpath(path) for path in (sys.executable, os.path.dirname(os.__file__), library)]
code = [marshal.dumps(compile(text, name, "exec", optimize=2)).hex() for name, text in json.load(sys.stdin)]
print(json.dumps([*paths, sysconfig.get_config_var("MULTIARCH") or "", code]))
"""
INSIDE = ("confine.py", "program.py", "tree.py", "launcher.py")
"""What of this folder runs inside, in this order; the first only where bubblewrap does not do its work."""
SYSTEM = "/usr/bin/python3"
LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32")
ALIASES = ("/lib", "/lib32", "/lib64", "/libx32")
DEVICES = ("null", "urandom")
LINKS = (("/dev/shm", "/tmp"), ("/dev/stdin", "/tmp/.stdin"), ("/dev/random", "urandom"))  # noqa: S108
PACKAGES = ("site-packages", "dist-packages")


class Mount(NamedTuple):
    """One part of the sandbox's file system: ``bind``, ``device``, ``room`` (source: its bytes) or ``link``."""

    kind: str
    target: str
    source: str


@dataclass(frozen=True)
class Interpreter:
    """A Python with its standard library."""

    path: str
    stdlib: str
    shared: str
    """The library that the binary is linked to, or a path that is no file."""
    multiarch: str
    """What Debian calls this machine's libraries, or nothing."""
    code: tuple[bytes, ...] = field(repr=False)
    """``INSIDE`` as this Python compiles it, for ``marshal`` there: reading it as text costs a third of a launch."""

    def mounts(self, folder_bytes: int) -> list[Mount]:
        """The whole file system: shared libraries, this Python, few devices, ``/tmp`` and ``/work``; no packages."""
        libraries = self._libraries()
        found = [Mount("bind", path, path) for path in libraries]
        found += [
            Mount("link", path, str(Path(path).readlink())) if Path(path).is_symlink() else Mount("bind", path, path)
            for path in ALIASES
            if Path(path).is_dir()
        ]
        found += [Mount("bind", path, path) for path in self._own() if not _within(path, libraries)]
        found += [Mount("room", path, "") for path in self._packages((self.stdlib, *libraries))]
        found += [Mount("device", f"/dev/{name}", f"/dev/{name}") for name in DEVICES]
        found += [Mount("room", path, str(folder_bytes)) for path in ("/tmp", "/work")]  # noqa: S108
        return found + [Mount("link", path, target) for path, target in LINKS]

    def _own(self) -> Iterator[str]:
        yield self.path
        yield self.stdlib
        if Path(self.shared).is_file():
            yield self.shared
        if Path("/etc/ld.so.cache").is_file():
            yield "/etc/ld.so.cache"

    def _libraries(self) -> tuple[str, ...]:
        """Folders of shared libraries, and the loader. Debian keeps little else in them; others keep more."""
        own = Path("/usr/lib", self.multiarch)
        real = [path for path in LIBRARIES if Path(path).is_dir() and not Path(path).is_symlink()]
        if not self.multiarch or not own.is_dir():
            return tuple(real)
        loaders = sorted(str(path) for path in Path("/usr/lib").glob("ld-linux*"))
        return (str(own), *loaders, *(path for path in real if path != "/usr/lib"))

    def _packages(self, bound: tuple[str, ...]) -> Iterator[str]:
        """Folders of installed packages below what is bound: they are hidden, as the project may be among them."""
        below = [folder for path in LIBRARIES for folder in Path(path).glob("python3*")]
        places = {folder / name for folder in (*below, Path(self.stdlib)) for name in PACKAGES}
        yield from sorted(str(place) for place in places if place.is_dir() and _within(str(place), bound))


def _within(path: str, folders: tuple[str, ...]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def candidates() -> list[Interpreter]:
    """The Pythons to try, the one of this process first, so that programs find the version they expect."""
    real = [os.path.realpath(path) for path in (sys.executable, SYSTEM) if path and Path(path).exists()]
    return [found for path in dict.fromkeys(real) if (found := _asked(path)) is not None]


def _asked(path: str) -> Interpreter | None:
    """What the interpreter says of itself; None where it does not run, or is older than 3.9."""
    texts = [(name, Path(__file__).with_name(name).read_text(encoding="utf-8")) for name in INSIDE]
    words = [path, "-I", "-S", "-c", ASK]
    ran = subprocess.run(words, input=json.dumps(texts), capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode:
        return None
    binary, stdlib, shared, multiarch, code = json.loads(ran.stdout)
    return Interpreter(binary, stdlib, shared, multiarch, tuple(map(bytes.fromhex, code)))
