"""What a server said: an answer that is whole, or one that is being spoken, with the deadlines of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.chat import JSON, Spoken
from gateway.errors import EngineFailed
from gateway.streaming import Heard, events_of
from rl.errors import EngineUnavailable

NOT_ONE = "answered what is not a chat completion"
END_SECONDS = 1.0
"""How long the end of a stream that is over is waited for, so that its connection can be used again."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until something must be heard, again after each thing that was, and until the answer must be whole."""

    first_byte: float = 30.0
    answer: float = 120.0

    @asynccontextmanager
    async def to_begin(self) -> AsyncIterator[None]:
        """Within it an answer must begin.

        Raises:
            EngineUnavailable: it did not.
        """
        try:
            async with asyncio.timeout(self.first_byte):
                yield
        except TimeoutError:
            raise EngineUnavailable(f"said nothing for {self.first_byte:g} s") from None

    @asynccontextmanager
    async def to_end(self) -> AsyncIterator[None]:
        """Within it an answer must be whole.

        Raises:
            EngineUnavailable: it was not.
        """
        try:
            async with asyncio.timeout(self.answer):
                yield
        except TimeoutError:
            raise EngineUnavailable(f"took more than {self.answer:g} s") from None


@dataclass(slots=True)
class Answer:
    """An answer's status, type and ``Retry-After``, with its body, or with the stream that is its body.

    ``spoken`` is what a whole completion says, for the record.
    """

    status: int
    media_type: str
    retry_after: str | None
    body: bytes = b""
    spoken: Spoken | None = None
    stream: Stream | None = None


class Source(Protocol):
    """Where the bytes of a body come from."""

    async def more(self) -> bytes:
        """The next of them; empty at the end."""

    async def aclose(self) -> None:
        """Give up the rest."""


class Stream:
    """An answer that is being spoken. ``broke`` is to be told when it breaks off after it had begun.

    ``ended`` is told once, when nothing more is read of it.

    Nothing of it is for the caller before ``begin`` returns: until then another may answer instead.
    """

    def __init__(self, source: Source, heard: Heard, deadlines: Deadlines, first: bytes = b"") -> None:
        self._source, self._heard, self._deadlines = source, heard, deadlines
        self._until = asyncio.get_running_loop().time() + deadlines.answer
        self._first = first
        self.broke: Callable[[], None] = _nothing
        self.ended: Callable[[], None] = _nothing

    async def begin(self) -> Stream:
        """Wait until something of the answer itself was heard, within a deadline of the caller's.

        Raises:
            EngineUnavailable: the server failed.
        """
        try:
            while not (self._heard.has_begun or self._heard.is_done):
                self._first += await self._read()
        except BaseException:
            await self._source.aclose()
            raise
        return self

    async def events(self) -> AsyncIterator[bytes]:
        """The events for the caller as they come, but for the last ones. The time it takes them is not the server's.

        Raises:
            EngineUnavailable: the server failed in the middle, or fell silent.
        """
        now, sent = asyncio.get_running_loop().time, self._first
        while sent or not self._heard.is_done:
            if sent:
                before = now()
                yield sent
                self._until += now() - before
            sent = b"" if self._heard.is_done else await self._in_time()
        self._heard.check()

    @property
    def last(self) -> bytes:
        """The events that end it, to be sent once the call is recorded."""
        return self._heard.last

    def spoken(self) -> Spoken:
        """What was said, for the record."""
        return self._heard.spoken()

    async def aclose(self) -> None:
        """Let the connection go: it can be used again if the answer was heard to its end."""
        ended, self.ended = self.ended, _nothing
        try:
            if self._heard.is_done:
                await self._rest()
            await self._source.aclose()
        finally:
            ended()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._source.more()
        except (EngineUnavailable, TimeoutError):
            pass

    async def _in_time(self) -> bytes:
        limit = min(asyncio.get_running_loop().time() + self._deadlines.first_byte, self._until)
        try:
            async with asyncio.timeout_at(limit):
                return await self._read()
        except TimeoutError:
            why = f"took more than {self._deadlines.answer:g} s" if limit == self._until else "fell silent"
            raise EngineUnavailable(f"{why} in the middle of its answer") from None

    async def _read(self) -> bytes:
        piece = await self._source.more()
        if piece:
            return self._heard.feed(piece)
        self._heard.end()
        return b""


class Nothing:
    """The source of a stream that is whole already."""

    async def more(self) -> bytes:
        """Nothing."""
        return b""

    async def aclose(self) -> None:
        """Nothing to give up."""


def is_failure(status: int) -> bool:
    """Whether an answer of that status is the server's failure, rather than a completion or the request's own.

    A redirection is one: nobody follows it, since the conversation and the key would go elsewhere.
    """
    return status == 404 or status >= 500 or (status < 400 and status != 200)


def _nothing() -> None:
    """Whom nobody has asked to be told is not told."""


def stream_of_body(body: bytes, wants: Mapping[str, Any], deadlines: Deadlines) -> Stream:
    """The stream of a server that answers whole although it was asked for one.

    Raises:
        EngineUnavailable: it is not a chat completion.
    """
    heard = Heard(wants)
    try:
        return Stream(Nothing(), heard, deadlines, heard.feed(events_of(JSON.decode(body.decode()), wants)))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise EngineFailed(f"{NOT_ONE} ({error!r})", NOT_ONE) from None
