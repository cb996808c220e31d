"""Asking a judge over HTTP: what is retried, what is never, and what each call may cost.

=======================================  ===================================================================
429, 408, 5xx, no answer, a time-out     asked again after a back-off, ``attempts`` times in all
an answer that cannot be used            asked again in another order, ``answers`` times in all
400 and other refusals of one request    no score for that group
401, 403, 404                            nothing more is asked: the key or the model is wrong, and the job fails
the day's budget has no room             no request; the job goes on when the next day's budget begins
=======================================  ===================================================================
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rl.judge_answers import Malformed, Verdict, parse
from rl.judge_prompt import Request, request
from rl.judging import Group
from rl.scoring import Chance
from rl.scoring_config import Judge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.judgements import Kept, Usage

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 60.0
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
    """A group has no score, why, and when it may have one."""

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
    """Asks one judge about groups. Use it as an async context manager, in one event loop.

    A group that was judged before is not asked about. Pacing is that of this client; the budget that of the ledger.
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
        async with self._places:
            kept = await asyncio.to_thread(self._ledger.find, group.sha256)
            if kept is not None:
                return Judged.of(kept)
            malformed = Malformed("")
            for number in range(self._judge.answers):
                answer = await self._answer(group, request(group, self._judge, number))
                if not isinstance(answer, Malformed):
                    return answer
                malformed = answer
            return Failure(f"none of {self._judge.answers} answers of the judge can be used: {malformed.reason}")

    async def _answer(self, group: Group, asked: Request) -> Judged | Malformed | Failure:
        """One answer of the judge, however many attempts it takes."""
        most = self._judge.cost(asked.most_prompt_tokens, self._judge.max_tokens)
        reply = _Reply(0)
        for attempt in range(self._judge.attempts):
            if attempt:
                await asyncio.sleep(
                    reply.wait or min(FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1), LONGEST_BACKOFF_SECONDS)
                )
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
                return await self._read(group, asked, reservation, reply.body, most)
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
        self, group: Group, asked: Request, reservation: str, body: bytes, most: float
    ) -> Judged | Malformed:
        """Take the answer, and write down what it cost: at most, where it does not say."""
        from db.judgements import Usage

        said, tokens = _content(body)
        cost = most if tokens is None else self._judge.cost(*tokens)
        usage = Usage(*(tokens or (0, 0)), cost)
        found = said if isinstance(said, Malformed) else parse(said, asked.ids)
        if isinstance(found, Malformed):
            await asyncio.to_thread(self._ledger.refuse, reservation, found.reason, usage)
            return found
        views = zip(asked.ids, asked.views, strict=True)
        judged = Judged({group.views[view].sha256: found[one] for one, view in views}, cost)
        await asyncio.to_thread(self._ledger.keep, reservation, group.sha256, self._judge.model, judged.answer(), usage)
        return judged

    async def _pace(self) -> None:
        """Wait for this client's turn of the minute."""
        if self._judge.requests_per_minute is None:
            return
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + 60 / self._judge.requests_per_minute
        await asyncio.sleep(at - now)

    async def _post(self, asked: Request) -> _Reply:
        import httpx

        try:
            async with asyncio.timeout(self._judge.timeout_seconds):
                return await self._send(asked)
        except TimeoutError:
            return _Reply(0, said=f"the judge took longer than {self._judge.timeout_seconds:g} s", is_free=False)
        except httpx.RequestError as error:
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            return _Reply(0, said=f"the judge gave no answer ({type(error).__name__})", is_free=unsent)

    async def _send(self, asked: Request) -> _Reply:
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
        said = f"the judge answered {answer.status_code}{_code(body)}"
        return _Reply(answer.status_code, body, _retry_after(answer.headers.get("retry-after", "")), said)


JSON = {"Content-Type": "application/json"}


def _content(body: bytes) -> tuple[str | Malformed, tuple[int, int] | None]:
    """What the judge said, and the tokens it was charged for; None where it does not say."""
    try:
        answer = json.loads(body)
        said, stopped = answer["choices"][0]["message"]["content"], answer["choices"][0].get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Malformed("not a chat completion"), None
    return said if isinstance(said, str) else Malformed(f"no content (finish_reason {stopped!r:.40})"), _tokens(answer)


def _tokens(answer: dict[str, Any]) -> tuple[int, int] | None:
    usage = answer.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    counted = [
        count for count in counts if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**31
    ]
    return (counted[0], counted[1]) if len(counted) == 2 else None


def _code(body: bytes) -> str:
    """The server's word for an error. Never its message, which may quote a key or what was sent."""
    try:
        error = json.loads(body)["error"]
        word = error.get("code") or error.get("type")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({word})" if isinstance(word, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", word) else ""


def _retry_after(text: str) -> float:
    """Seconds of the ``Retry-After`` header within bounds; 0 where it is missing or a date."""
    return min(float(text), LONGEST_BACKOFF_SECONDS) if re.fullmatch(r"\d{1,9}(\.\d+)?", text, re.ASCII) else 0.0
