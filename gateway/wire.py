"""HTTP/1.1 to the engines with as little work a call as can be: a request is one write, an answer is read as it comes.

What breaks without it: httpx took two thirds of all the work that the gateway did for a call. Nothing here follows
redirects, decodes or goes through proxies: engines are servers of ours, or beside ours.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from rl.errors import EngineUnavailable

CONNECT_SECONDS = 2.0
IDLE_SECONDS = 3.0
"""A connection that was idle for longer is not used again: vLLM closes it after 5 s (our engine after 75)."""

LONGEST_HEAD = 65536
SIZE = re.compile(rb"[0-9a-fA-F]{1,7}")
"""The size of a chunk: less than 256 MiB."""

BROKEN = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)
"""The connection was lost, or what came over it is not HTTP."""


class Hasty(EngineUnavailable):
    """The server closed the connection without a word: it had been idle, and the server thought it was over."""


@dataclass(slots=True)
class Connection:
    """One connection, for one request at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: float = field(default_factory=time.monotonic)
    is_fresh: bool = True

    @property
    def is_usable(self) -> bool:
        """Whether the server has it open still, as far as is known."""
        return time.monotonic() - self.used < IDLE_SECONDS and not self.reader.at_eof()

    def close(self) -> None:
        """Close it, whatever is under way."""
        self.writer.close()


class Response:
    """An answer whose head was read. ``headers`` have names in small letters.

    Read it to its end, or close it: whichever comes first frees the connection.
    """

    def __init__(self, wire: Wire, url: str, connection: Connection, head: bytes) -> None:
        self._wire, self._url, self._connection = wire, url, connection
        self.status, is_new, self.headers = _parsed(head)
        self._is_chunked = self.headers.get("transfer-encoding", "").lower().endswith("chunked")
        self._left = None if self._is_chunked else _length(self.headers, self.status)
        is_framed = self._is_chunked or self._left is not None
        self._is_reusable = is_new and is_framed and self.headers.get("connection", "").lower() != "close"
        self._is_over = self._left == 0
        if self._is_over:
            self._free(self._is_reusable)

    async def more(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises:
            EngineUnavailable: the connection was lost on the way.
        """
        if self._is_over:
            return b""
        try:
            piece = await self._piece()
        except BROKEN as error:
            raise self._lost(error) from error
        if piece == b"" and not self._is_chunked and self._left:
            raise self._lost(EOFError())
        if self._left is not None:
            self._left -= len(piece)
        if piece == b"" or self._left == 0:
            self._is_over = True
            self._free(self._is_reusable)
        return piece

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            EngineUnavailable: the connection was lost on the way.
        """
        pieces = []
        try:
            while piece := await self.more():
                pieces.append(piece)
        finally:
            self._close()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Give up the rest, if there is any: the server learns of it by the lost connection."""
        self._close()

    def _close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._free(False)

    async def _piece(self) -> bytes:
        reader = self._connection.reader
        if not self._is_chunked:
            return await reader.read(LONGEST_HEAD if self._left is None else min(self._left, LONGEST_HEAD))
        size, _, _ = (await reader.readuntil(b"\r\n"))[:-2].partition(b";")
        if not SIZE.fullmatch(size.strip()):
            raise ValueError("the size of a chunk")
        length = int(size, 16)
        if length:
            return (await reader.readexactly(length + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b""

    def _lost(self, error: Exception) -> EngineUnavailable:
        self._close()
        return EngineUnavailable(f"broke off in the middle of its answer ({type(error).__name__})")

    def _free(self, is_whole: bool) -> None:
        self._wire.give_back(self._url, self._connection, is_whole)


class Wire:
    """Connections to servers by URL, kept while they are idle. ``headers`` go with every request."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._idle: dict[str, list[Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def ask(self, method: str, url: str, path: str, body: bytes = b"") -> Response:
        """The answer of the server at ``url``, its head read.

        Raises:
            EngineUnavailable: there is none, or what answers does not speak HTTP.
        """
        where = _split(url)
        head = f"{method} {where.path}{path} HTTP/1.1\r\nhost: {where.netloc}\r\n{self._headers}"
        message = f"{head}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body
        idle = self._idle.setdefault(url, [])
        while idle:
            if not (connection := idle.pop()).is_usable:
                connection.close()
                continue
            try:
                return await self._exchange(url, connection, message)
            except Hasty:
                break
        return await self._exchange(url, await self._connect(where), message)

    async def _exchange(self, url: str, connection: Connection, message: bytes) -> Response:
        try:
            connection.writer.write(message)
            while (head := await connection.reader.readuntil(b"\r\n\r\n"))[9:10] == b"1":
                pass  # 100 to 199 announce the answer
            return Response(self, url, connection, head)
        except BaseException as error:
            connection.close()
            if not isinstance(error, BROKEN):
                raise
            is_silent = isinstance(error, ConnectionError) or getattr(error, "partial", None) == b""
            kind = EngineUnavailable if connection.is_fresh or not is_silent else Hasty
            raise kind(f"did not answer ({type(error).__name__})") from error

    async def _connect(self, where: SplitResult) -> Connection:
        tls = self._context() if where.scheme == "https" else None
        port = where.port or (443 if tls else 80)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                opened = await asyncio.open_connection(where.hostname, port, ssl=tls, limit=LONGEST_HEAD)
        except (OSError, TimeoutError) as error:
            raise EngineUnavailable(f"did not answer ({type(error).__name__})") from error
        return Connection(*opened)

    def _context(self) -> ssl.SSLContext:
        self._tls = self._tls or ssl.create_default_context()
        return self._tls

    def give_back(self, url: str, connection: Connection, is_whole: bool) -> None:
        """Keep the connection for another request, if its answer was read whole and its server is known still."""
        idle = self._idle.get(url)
        if not is_whole or idle is None:
            connection.close()
            return
        connection.used, connection.is_fresh = time.monotonic(), False
        idle.append(connection)
        while idle and not idle[0].is_usable:
            idle.pop(0).close()

    def forget_all_but(self, urls: set[str]) -> None:
        """Close the connections to servers that are elsewhere now: a restarted engine has another port."""
        for url in self._idle.keys() - urls:
            for connection in self._idle.pop(url):
                connection.close()


@lru_cache(maxsize=256)
def _split(url: str) -> SplitResult:
    where = urlsplit(url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise EngineUnavailable(f"has the address {url!r}, which is no http:// or https:// URL")
    return where


def _parsed(head: bytes) -> tuple[int, bool, dict[str, str]]:
    """Status, whether it is HTTP/1.1, and the headers.

    Raises:
        ValueError: it is no head of an HTTP answer.
    """
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ValueError("the status line")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a header")
        headers[name.lower()] = value.strip()
    return int(rest[:3]), version == "HTTP/1.1", headers


def _length(headers: Mapping[str, str], status: int) -> int | None:
    """Bytes in the body; None where its end is the connection's."""
    if status in (204, 304):
        return 0
    given = headers.get("content-length")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit()):
        raise ValueError("content-length")
    return int(given)
