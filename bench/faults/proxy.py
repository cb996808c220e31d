"""A TCP proxy in front of a server, to make the network do what it does at the worst moment.

``python -m bench.faults.proxy HOST PORT`` says its own port on stdout, then carries out one JSON command a line of
stdin and answers each with an empty line. It is a process of its own, so that it forwards while the harness is busy,
and it ends with its stdin, so that it never outlives the harness.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 1 << 16


class Proxy:
    """A proxy of our own in front of ``target``: a URL with host and port. ``url`` is the same through the proxy."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target, self._process = parts, _start(parts.hostname or "127.0.0.1", parts.port or 0)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def url(self) -> str:
        """The target's URL, with the proxy's address."""
        account = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{account[0]}{account[1]}127.0.0.1:{self.port}"))

    def freeze(self) -> None:
        """Forward nothing more: sockets stay open, and new connections are accepted and stay silent."""
        self._tell({"do": "freeze"})

    def thaw(self) -> None:
        """Forward again, first of all what was held back."""
        self._tell({"do": "thaw"})

    def strand(self) -> None:
        """The connections there are stay open and silent for ever; new ones work. So does a failover look."""
        self._tell({"do": "strand"})

    def latency(self, seconds: float) -> None:
        """Hold every answer of the server back for so long."""
        self._tell({"do": "latency", "seconds": seconds})

    def cut(self) -> None:
        """Close every connection at once; new ones are accepted."""
        self._tell({"do": "cut"})

    def lose_answer(self, to: str, after: str, *, unasked: bool = False) -> None:
        """Once: forward the first request that holds ``to`` on a connection that said ``after``, and cut it there.

        The server does what it was asked, and the client never learns so. With ``unasked`` the request is not even
        forwarded, which looks the same to the client: the outcome is unknown to it.
        """
        self._tell({"do": "lose", "to": to, "after": after, "unasked": unasked})

    @property
    def lost(self) -> int:
        """How many answers ``lose_answer`` made the client lose."""
        return int(self._tell({"do": "count"}))

    def close(self) -> None:
        """End the proxy and its connections."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _tell(self, command: Mapping[str, object]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def _start(host: str, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.faults.proxy", host, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


class Forwarder:
    """The proxy's own side: connections, and what is done to them."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.seconds = 0.0
        self.lost = 0
        self._lose: tuple[bytes, bytes, bool] | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._links: set[Link] = set()

    def carry_out(self, command: Mapping[str, Any]) -> str:
        """Do what the harness asks; the answer is what it hears."""
        if command["do"] == "freeze":
            self.flowing.clear()
        elif command["do"] == "thaw":
            self.flowing.set()
        elif command["do"] == "strand":
            for link in self._links:
                link.stranded = True
        elif command["do"] == "latency":
            self.seconds = float(command["seconds"])
        elif command["do"] == "cut":
            for writer in self._writers:
                writer.transport.abort()
        elif command["do"] == "lose":
            self._lose = (command["to"].encode(), command["after"].encode(), command["unasked"])
        return str(self.lost)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, from its first byte to its last."""
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            await self.flowing.wait()
            answers, onward = await asyncio.open_connection(self.host, self.port)
            self._writers.add(onward)
            link = Link(self, reader, writer, answers, onward)
            self._links.add(link)
            await asyncio.wait(
                {asyncio.ensure_future(link.ask()), asyncio.ensure_future(link.answer())},
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._links.discard(link)
        except OSError:
            pass  # the server is down, as it is meant to be: the client sees its connection end
        finally:
            for one in (writer, onward):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    def loses(self, link: Link, chunk: bytes) -> bool:
        """Whether this request is the one whose answer is to be lost; says so on the link."""
        if self._lose is None:
            return False
        to, after, link.unasked = self._lose
        link.marked = link.marked or after in chunk
        if not (link.marked and to in chunk):
            return False
        self._lose = None
        return True


class Link:
    """The two directions of one connection."""

    def __init__(
        self,
        forwarder: Forwarder,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        self.forwarder, self.requests, self.client = forwarder, requests, client
        self.answers, self.server = answers, server
        self.marked = self.losing = self.unasked = self.stranded = False

    async def ask(self) -> None:
        """Client to server."""
        with contextlib.suppress(OSError):
            while chunk := await self.requests.read(CHUNK):
                await self.forwarder.flowing.wait()
                if self.stranded:
                    continue
                self.losing = self.losing or self.forwarder.loses(self, chunk)
                if self.losing and self.unasked:
                    return self._lose()
                self.server.write(chunk)
                await self.server.drain()
        return None

    async def answer(self) -> None:
        """Server to client."""
        with contextlib.suppress(OSError):
            while chunk := await self.answers.read(CHUNK):
                if self.forwarder.seconds:
                    await asyncio.sleep(self.forwarder.seconds)
                await self.forwarder.flowing.wait()
                if self.losing:
                    return self._lose()
                if not self.stranded:
                    self.client.write(chunk)
                    await self.client.drain()
        return None

    def _lose(self) -> None:
        self.forwarder.lost += 1
        self.client.transport.abort()


async def _run(host: str, port: int) -> None:
    forwarder = Forwarder(host, port)
    server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        sys.stdout.write(forwarder.carry_out(json.loads(line)) + "\n")
        sys.stdout.flush()
    os._exit(0)  # connections may hold data that nobody will read


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2])))
