"""Another host: a network namespace with a name and workers of its own, and a link to this one that can be cut.

This host is the namespace that the harness runs in, where both servers are. ``unshare`` makes the other one and
``nsenter`` starts what runs there; the two share no loopback, no route and no device but the two ends of the link.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bench.faults.ground import Ground
from rl.errors import StartError

NET = "198.18.0.0/15"
"""What RFC 2544 sets aside for tests between devices: no real network has these addresses."""
HERE, THERE, NOBODY = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
"""Addresses of the link's ends, and one that both drop without a word."""
FAR = "eth0"
PROGRAMS = ("hostname", "ip", "nsenter", "unshare")


def missing() -> str | None:
    """Why no second host can be had here; None where it can."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"{', '.join(lacking)} not found: install hostname, iproute2 and util-linux"
    try:
        with Host("probe"):
            return None
    except StartError as error:
        return str(error)


class Host:
    """A host called ``name``, from the beginning of a ``with`` block to its end. Its link works at first.

    ``near`` and ``far`` are the IPv4 addresses of this host and that one.

    Raises:
        StartError: the kernel gives no namespace or no link: it takes root, with CAP_NET_ADMIN and CAP_SYS_ADMIN.
    """

    def __init__(self, name: str) -> None:
        number = os.getpid() % (1 << 15)
        self.name = name
        net = f"198.{18 + (number >> 14)}.{number >> 6 & 255}"
        self.near, self.far = (f"{net}.{(number & 63) * 4 + end}" for end in (1, 2))
        self._device = f"rlf{os.getpid()}"

    def __enter__(self) -> Self:
        script = f"hostname {self.name} && ip link set lo up && echo up && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", script],
            stdin=subprocess.PIPE,  # its end is the namespace's, so that neither outlives the harness
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            self._connect()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            _ip("link", "del", self._device)
        finally:
            self._end()

    @property
    def enter(self) -> list[str]:
        """The words that come before a command which is to run there."""
        return ["nsenter", "--target", str(self._holder.pid), "--net", "--uts"]

    def environ(self, ground: Ground) -> dict[str, str]:
        """What tells a process there where the servers are, and its own folder of state; artifacts are shared."""
        return {
            "DATABASE_URL": ground.database_url.replace("127.0.0.1", self.near),
            "REDIS_URL": ground.redis_url.replace("127.0.0.1", self.near),
            "RLFLEET_STATE": str(ground.folder(self.name, "state")),
            "TMPDIR": str(ground.folder(self.name, "tmp")),
        }

    def unplug(self) -> None:
        """The other host's device goes down: it knows at once, and this host is told nothing."""
        _ip("link", "set", FAR, "down", inside=self.enter)

    def silence(self) -> None:
        """Every packet is lost on the way, both ways: no connection is closed, and none is refused."""
        self._send_to(NOBODY, NOBODY)

    def mend(self) -> None:
        """The link works again, whatever was wrong with it."""
        _ip("link", "set", FAR, "up", inside=self.enter)
        self._send_to(HERE, THERE)

    def _connect(self) -> None:
        assert self._holder.stdout is not None
        if (said := self._holder.stdout.readline()) != "up\n":
            raise StartError(f"no network namespace: {said.strip() or 'unshare said nothing'}; run this as root")
        peer = ("peer", "name", FAR, "address", THERE, "netns", str(self._holder.pid))
        _ip("link", "add", self._device, "address", HERE, "type", "veth", *peer)
        _ip("address", "add", f"{self.near}/30", "dev", self._device)
        _ip("link", "set", self._device, "up")
        _ip("address", "add", f"{self.far}/30", "dev", FAR, inside=self.enter)
        self.mend()

    def _send_to(self, here: str, there: str) -> None:
        """The addresses that both ends send to. They are fixed, so that nobody asks for them and none expires."""
        fixed = ("neigh", "replace", "nud", "permanent", "to")
        _ip(*fixed, self.far, "lladdr", there, "dev", self._device)
        _ip(*fixed, self.near, "lladdr", here, "dev", FAR, inside=self.enter)

    def _end(self) -> None:
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe is not None:
                pipe.close()
        self._holder.wait()


def _ip(*words: str, inside: Sequence[str] = ()) -> None:
    done = subprocess.run([*inside, "ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartError(f"ip {' '.join(words)}: {done.stderr.strip()}; run this as root")
