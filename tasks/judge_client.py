"""Asking a judge over HTTP: what is retried, what is never, and what each call may cost.

=======================================  ===================================================================
429, 408, 5xx, no answer, a time-out     asked again after a back-off, ``attempts`` times in all
an answer that cannot be used            asked again in another order, ``answers`` times in all
400 and other refusals of one request    no answer to that question
401, 403, 404                            nothing more is asked: the key or the model is wrong, and the job fails
the day's budget has no room             no request; the job goes on when the next day's budget begins
=======================================  ===================================================================
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from rl.judge_answers import Malformed, Verdict, parse
from rl.judge_prompt import Request, request
from rl.judging import Group
from rl.scoring import Chance
from rl.scoring_config import Judge
from tasks.judge_reply import LONGEST_SECONDS, code, content, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.judgements import Kept, Usage

FIRST_BACKOFF_SECONDS = 0.5
MOST_BYTES = 4_000_000
WRONG_FOR_ALL = frozenset({401, 404})
FORBIDDEN = 403
"""Said of a key, or by some servers of one question whose text they do not like."""
AGAIN = frozenset({408, 429})


class Ledger(Protocol):
    """What ``db.judgements`` does."""

    def find(self, request_sha256: str, /) -> Kept | None: ...
    def reserve(self, judge: str, most: float, budget: float | None, /) -> str | None: ...
    def keep(
        self, reservation: str, request_sha256: str, judge: str, answer: Mapping[str, Any], usage: Usage, /
    ) -> None: ...
    def refuse(self, reservation: str, reason: str, usage: Usage, /) -> None: ...
    def give_back(self, reservation: str, /) -> None: ...


Asked = TypeVar("Asked", bound="Body")


class Body(Protocol):
    """A chat completion's body, and a bound on the tokens of its prompt."""

    @property
    def body(self) -> dict[str, Any]: ...
    @property
    def most_prompt_tokens(self) -> int: ...


class Question(Protocol[Asked]):
    """What a judge is asked: ``sha256`` names it, and the answer that a ledger keeps of it."""

    @property
    def sha256(self) -> str: ...

    def request(self, answer: int, /) -> Asked:
        """The request for the ``answer``-th answer."""

    def read(self, said: str, asked: Asked, /) -> dict[str, Any] | Malformed:
        """What a ledger keeps of an answer, or why it cannot be used."""


@dataclass(frozen=True)
class _Scoring:
    """A group's question."""

    group: Group
    judge: Judge

    @property
    def sha256(self) -> str:
        return self.group.sha256

    def request(self, answer: int, /) -> Request:
        return request(self.group, self.judge, answer)

    def read(self, said: str, asked: Request, /) -> dict[str, Any] | Malformed:
        found = parse(said, asked.ids)
        if isinstance(found, Malformed):
            return found
        views = zip(asked.ids, asked.views, strict=True)
        return Judged({self.group.views[view].sha256: found[one] for one, view in views}, 0.0).answer()


@dataclass(frozen=True)
class Judged:
    """A verdict for each view of a group, by the view's hash, and what the answer cost."""

    verdicts: dict[str, Verdict]
    cost: float

    def answer(self) -> dict[str, Any]:
        """What a ledger keeps."""
        return {"scores": {sha256: verdict._asdict() for sha256, verdict in self.verdicts.items()}}

    @classmethod
    def of(cls, kept: Kept) -> Judged:
        return cls({sha256: Verdict(**one) for sha256, one in kept.answer["scores"].items()}, kept.cost)


@dataclass(frozen=True)
class Failure:
    """A question has no answer, why, and when it may have one."""

    reason: str
    chance: Chance | None = None


def no_room(judge: Judge, most: float) -> Failure:
    """The day's budget has no room for a call that costs ``most``; it never has where that is more than a day's."""
    budget = judge.daily_budget or 0.0
    reason = f"the daily budget of {budget:g} for {judge.model} has no room for a call of at most {most:.6g}"
    if most > budget:
        return Failure(f"{reason}; raise judge.daily_budget, or lower judge.max_tokens or max_characters", "mended")
    return Failure(reason, "tomorrow")


@dataclass(frozen=True)
class _Reply:
    """One answer of the server; status 0 where none came. ``is_free`` where it is sure to have cost nothing."""

    status: int
    body: bytes = b""
    wait: float = 0.0
    said: str = ""
    is_free: bool = True


class JudgeClient:
    """Asks one judge. Use it as an async context manager, in one event loop.

    What was answered before is not asked again. Pacing is that of this client; the budget that of the ledger.
    """

    def __init__(self, url: str, key: str, judge: Judge, ledger: Ledger) -> None:
        import httpx

        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each URL, and a URL may hold a key
        headers = {"User-Agent": "rlfleet"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._http = httpx.AsyncClient(headers=headers, timeout=judge.timeout_seconds, trust_env=False)
        self._url = f"{url}/chat/completions"
        self._judge, self._ledger = judge, ledger
        self._places = asyncio.Semaphore(judge.concurrency)
        self._next_at = 0.0
        self._closed: Failure | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def judged(self, group: Group) -> Judged | Failure:
        """The group's verdicts: kept ones, or those of the first answer that can be used.

        Raises:
            DatabaseUnavailable: the ledger cannot be read or written.
        """
        found = await self.asked(_Scoring(group, self._judge))
        return found if isinstance(found, Failure) else Judged.of(found)

    async def asked(self, question: Question[Asked]) -> Kept | Failure:
        """The answer to the question: the one that is kept, or the first that can be used.

        Raises:
            DatabaseUnavailable: the ledger cannot be read or written.
        """
        async with self._places:
            kept = await asyncio.to_thread(self._ledger.find, question.sha256)
            if kept is not None:
                return kept
            malformed = Malformed("")
            for number in range(self._judge.answers):
                answer = await self._answer(question, question.request(number))
                if not isinstance(answer, Malformed):
                    return answer
                malformed = answer
            return Failure(f"none of {self._judge.answers} answers of the judge can be used: {malformed.reason}")

    async def _answer(self, question: Question[Asked], asked: Asked) -> Kept | Malformed | Failure:
        """One answer of the judge, however many attempts it takes."""
        most = self._judge.cost(asked.most_prompt_tokens, self._judge.max_tokens)
        reply = _Reply(0)
        for attempt in range(self._judge.attempts):
            if attempt:
                await asyncio.sleep(reply.wait or min(FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1), LONGEST_SECONDS))
            await self._pace()
            if self._closed is not None:
                return self._closed
            reservation = await asyncio.to_thread(
                self._ledger.reserve, self._judge.model, most, self._judge.daily_budget
            )
            if reservation is None:
                return no_room(self._judge, most)
            reply = await self._post(asked)
            if reply.status == 200:
                return await self._read(question, asked, reservation, reply.body, most)
            if reply.is_free:
                await asyncio.to_thread(self._ledger.give_back, reservation)
            if reply.status and reply.status not in AGAIN and reply.status < 500:
                return self._refused(reply)
        return Failure(f"{reply.said}, {self._judge.attempts} times", "later")

    def _refused(self, reply: _Reply) -> Failure:
        reason = f"{reply.said}; check RLFLEET_JUDGE_URL, RLFLEET_JUDGE_KEY and judge.model = {self._judge.model}"
        if reply.status in WRONG_FOR_ALL:
            self._closed = Failure(reason, "mended")
        return self._closed or Failure(reason, "other" if reply.status == FORBIDDEN else None)

    async def _read(
        self, question: Question[Asked], asked: Asked, reservation: str, body: bytes, most: float
    ) -> Kept | Malformed:
        """Take the answer, and write down what it cost: at most, where it does not say."""
        from db.judgements import Kept, Usage

        said, tokens = content(body)
        cost = most if tokens is None else self._judge.cost(*tokens)
        usage = Usage(*(tokens or (0, 0)), cost)
        found = said if isinstance(said, Malformed) else question.read(said, asked)
        if isinstance(found, Malformed):
            await asyncio.to_thread(self._ledger.refuse, reservation, found.reason, usage)
            return found
        await asyncio.to_thread(self._ledger.keep, reservation, question.sha256, self._judge.model, found, usage)
        return Kept(found, cost)

    async def _pace(self) -> None:
        """Wait for this client's turn of the minute."""
        if self._judge.requests_per_minute is None:
            return
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + 60 / self._judge.requests_per_minute
        await asyncio.sleep(at - now)

    async def _post(self, asked: Body) -> _Reply:
        import httpx

        try:
            async with asyncio.timeout(self._judge.timeout_seconds):
                return await self._send(asked)
        except TimeoutError:
            return _Reply(0, said=f"the judge took longer than {self._judge.timeout_seconds:g} s", is_free=False)
        except httpx.RequestError as error:
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            return _Reply(0, said=f"the judge gave no answer ({type(error).__name__})", is_free=unsent)

    async def _send(self, asked: Body) -> _Reply:
        body = b""
        async with self._http.stream(
            "POST", self._url, content=json.dumps(asked.body).encode(), headers=JSON
        ) as answer:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    break
        if answer.status_code == 200:
            return _Reply(200, body, is_free=False)
        said = f"the judge answered {answer.status_code}{code(body)}"
        return _Reply(answer.status_code, body, retry_after(answer.headers.get("retry-after", "")), said)


JSON = {"Content-Type": "application/json"}
