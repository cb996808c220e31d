"""HTTP/1.1 on one connection that is kept, read no further than a measurement needs."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

LIMIT = 2**22


@dataclass(frozen=True)
class Reply:
    """``body`` as it came; of a stream, ``first`` is when its first text came, on the clock of ``time.monotonic``."""

    status: int
    body: bytes
    first: float | None = None


class Connection:
    """Requests one after the other. Made by ``connect``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, host: str, port: int) -> Connection:
        """A connection to that server."""
        return cls(*await asyncio.open_connection(host, port, limit=LIMIT))

    async def ask(self, request: bytes) -> Reply:
        """The reply to a request.

        Raises:
            OSError, asyncio.IncompleteReadError: the server went away.
        """
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" not in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            return Reply(status, await self._reader.readexactly(length))
        body, first = bytearray(), None
        while chunk := await self._chunk():
            body += chunk
            if first is None and _speaks(body):
                first = time.monotonic()
        return Reply(status, bytes(body), first)

    async def _chunk(self) -> bytes:
        size = int(await self._reader.readline(), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()


def request(host: str, path: str, headers: dict[str, str], body: dict[str, Any]) -> bytes:
    """A POST of JSON."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()] + [f"content-length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def events(body: bytes | bytearray) -> list[dict[str, Any]]:
    """The objects that a stream of events says; its end mark is none."""
    said = [line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:")]
    return [json.loads(one) for one in said if one != b"[DONE]"]


def _speaks(body: bytearray) -> bool:
    """Whether the whole events of what came of a stream hold text of the answer."""
    whole = events(body[: body.rfind(b"\n\n") + 1])
    deltas = [choice["delta"] for event in whole for choice in event.get("choices", ())]
    return any(delta.get("content") for delta in deltas)
