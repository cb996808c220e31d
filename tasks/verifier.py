"""Asking the user's verifier whether an answer at a logged decision point is right.

It is an ``http(s)`` URL, which is sent a question by POST, or ``module:function``, which is called with it. A question
is ``{"scenario_id", "messages", "tools", "answer", "logged_answer", "metadata"}``, messages and answers in OpenAI's
shape. The answer is ``{"right": true | false | null, "reason": "..."}``; a function may return the bare value too.
Null is "no verdict".

===========================================  ===========================================================
429, 408, 5xx, no answer, a time-out         asked again after a back-off, ``ATTEMPTS`` times in all
401, 403, 404                                nothing more is asked, and the job fails: the key or URL is wrong
other statuses, or something else than that  no verdict for that answer
a function that raises, or takes too long    no verdict; ``MOST_IN_A_ROW`` of them, and the job fails
===========================================  ===========================================================
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from rl.errors import InvalidSettings
from rl.judge_answers import storable
from tasks.judge_client import AGAIN, Failure
from tasks.judge_reply import LONGEST_SECONDS, retry_after
from tasks.judge_settings import judge_settings

if TYPE_CHECKING:
    import httpx

FIELD = "held_out.verifier"
VERSION = "1"
"""Of the contract."""
SECONDS = 60.0
"""For one answer."""
ATTEMPTS = 4
FIRST_BACKOFF_SECONDS = 0.5
CONCURRENCY = 8
MOST_BYTES = 1 << 20
MOST_IN_A_ROW = 5
LONGEST_REASON = 300
WRONG_FOR_ALL = frozenset({401, 403, 404})

Question = Mapping[str, Any]
Beat = Callable[[object, int, int], None]


class Said(NamedTuple):
    """What the verifier says of an answer; right is None where it does not know."""

    right: bool | None
    reason: str | None


async def verified(setting: str, questions: Sequence[Question], beat: Beat) -> list[Said | Failure]:
    """What the verifier says of each question, in order. ``beat(_, done, total)`` is called after each.

    Raises:
        InvalidSettings: the function cannot be imported, or fails again and again.
    """
    if is_url(setting):
        return await _by_url(setting, questions, beat)
    return await _by_function(setting, questions, beat)


def is_url(setting: str) -> bool:
    """Whether the verifier is asked over HTTP."""
    return setting.startswith(("http://", "https://"))


def judge_name(setting: str) -> str:
    """How an evaluation row names this verifier: without a scheme."""
    where = urlsplit(setting)
    return f"verifier/{where.netloc}{where.path}" if is_url(setting) else f"verifier/{setting}"


def said_by(found: object) -> Said | Failure:
    """What an answer says, or why it cannot be used."""
    whole = found if isinstance(found, dict) else {"right": found}
    right, reason = whole.get("right", ...), whole.get("reason")
    if right is not None and not isinstance(right, bool):
        return Failure('the verifier answered something other than {"right": true, false or null}')
    return Said(right, storable(reason)[:LONGEST_REASON] if isinstance(reason, str) and reason else None)


async def _by_function(setting: str, questions: Sequence[Question], beat: Beat) -> list[Said | Failure]:
    from backends.verifier import FunctionVerifier

    found: list[Said | Failure] = []
    in_a_row = 0
    async with FunctionVerifier(setting, SECONDS) as function:
        for question in questions:
            answer = await function.call(question)
            failed = answer.get("failed")
            found.append(said_by(answer.get("returned", ...)) if failed is None else Failure(f"the verifier: {failed}"))
            in_a_row = in_a_row + 1 if isinstance(found[-1], Failure) else 0
            if in_a_row == MOST_IN_A_ROW:
                last = found[-1].reason
                raise InvalidSettings(FIELD, setting, f"{in_a_row} answers in a row without a verdict: {last}; mend it")
            beat(None, len(found), len(questions))
    return found


async def _by_url(setting: str, questions: Sequence[Question], beat: Beat) -> list[Said | Failure]:
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)
    key = judge_settings().verifier_key
    headers = {"User-Agent": "rlfleet", "Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    found: dict[int, Said | Failure] = {}
    waiting = iter(enumerate(questions))
    closed: list[Failure] = []

    async def asker(http: httpx.AsyncClient) -> None:
        for place, question in waiting:
            found[place] = closed[0] if closed else await _ask(http, setting, question)
            answer = found[place]
            if isinstance(answer, Failure) and answer.chance == "mended":
                closed.append(answer)
            beat(None, len(found), len(questions))

    async with httpx.AsyncClient(headers=headers, timeout=SECONDS, trust_env=False) as http:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(CONCURRENCY, len(questions))):
                    group.create_task(asker(http))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
    return [found[place] for place in range(len(questions))]


async def _ask(http: httpx.AsyncClient, url: str, question: Question) -> Said | Failure:
    """One verdict, however many attempts it takes."""
    reason, wait = "", 0.0
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(wait or min(FIRST_BACKOFF_SECONDS * 2 ** (attempt - 1), LONGEST_SECONDS))
        status, wait, body = await _post(http, url, question)
        if status == 200:
            return _parsed(body)
        reason = f"the verifier answered {status}" if status else "the verifier gave no answer"
        if status in WRONG_FOR_ALL:
            return Failure(f"{reason}; check held_out.verifier and RLFLEET_VERIFIER_KEY", "mended")
        if status and status not in AGAIN and status < 500:
            return Failure(reason)
    return Failure(f"{reason}, {ATTEMPTS} times", "later")


async def _post(http: httpx.AsyncClient, url: str, question: Question) -> tuple[int, float, bytes]:
    """Status (0 where there is none), the seconds it asks to wait, and the body as far as it is read."""
    import httpx

    body = b""
    try:
        async with (
            asyncio.timeout(SECONDS),
            http.stream("POST", url, content=json.dumps(question).encode()) as answer,
        ):
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    break
            return answer.status_code, retry_after(answer.headers.get("retry-after", "")), body
    except (TimeoutError, httpx.RequestError):
        return 0, 0.0, b""


def _parsed(body: bytes) -> Said | Failure:
    try:
        return said_by(json.loads(body))
    except (ValueError, RecursionError):
        return Failure("the verifier answered something other than JSON")
