"""Verdicts on answers at decision points: by duels before a judge, or by the user's verifier.

==============================  ==================================================================================
both orders prefer one answer   it is right, and the other one wrong
anything else a judge says      a tie: both are right
an answer is missing            no verdict for that point
nothing usable was said of it   no verdict for that point
nobody can be asked             the job waits or fails, as one that scores does; what was said until then is kept
==============================  ==================================================================================
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rl import duel
from rl.config import digest
from rl.errors import InvalidSettings, Tomorrow, TransientError
from rl.health import broken, reason_of
from rl.held_out import LOGGED
from tasks import verifier
from tasks.answers import content_hash
from tasks.judge_client import Failure, JudgeClient
from tasks.judge_settings import judge_settings

if TYPE_CHECKING:
    from db.held_out import Point
    from db.jobs import Claim
    from rl.held_out import LoggedSet
    from rl.scoring_config import Judge
    from tasks.answers import Answer, Asked
    from tasks.verifier import Said

Beat = Callable[[object, int, int], None]
Verdict = tuple[bool | None, bool | None, str | None]
"""Right of the version, right of its rival, and the reason."""


def prompt_hash(task_set: LoggedSet) -> str:
    """The hash of how answers are made and judged; results under different ones are not compared."""
    if task_set.judge is not None:
        return duel.prompt_hash(task_set)
    return digest("verifier", verifier.VERSION, task_set.max_tokens, task_set.sampled_at)


async def duelled(claim: Claim, judge: Judge, asked: Asked, beat: Beat) -> list[dict[str, Any]]:
    """A verdict row for each point: the version's answer against the rival's, in both orders.

    Raises:
        InvalidSettings, TransientError, Tomorrow: as ``settle``; or RLFLEET_JUDGE_URL is not set.
        DatabaseUnavailable: the ledger cannot be read or written.
    """
    from db import judgements

    pairs = list(zip(asked.points, asked.mine, asked.theirs, strict=True))
    found: list[Verdict | Failure] = [_unasked(mine, theirs) for _, mine, theirs in pairs]
    duels = {
        place: _duel(point, mine.message, theirs.message)
        for place, (point, mine, theirs) in enumerate(pairs)
        if mine.message is not None and theirs.message is not None
    }
    open_ = [place for place, one in duels.items() if not one.is_tied]
    for place in duels.keys() - set(open_):
        found[place] = (True, True, None)
    if open_:
        url, key = judge_settings().where()
        async with JudgeClient(url, key, judge, judgements) as client:
            several = await _all([_judged(client, duels[place], judge) for place in open_], beat)
        for place, one in zip(open_, several, strict=True):
            found[place] = one
    settle(claim, f"held_out.judge.model = {judge.model}", found)
    return _rows(asked, found)


async def verified(claim: Claim, setting: str, asked: Asked, beat: Beat) -> list[dict[str, Any]]:
    """A verdict row for each point: whether the verifier says that the version's answer is right.

    Where answers are compared with the logged ones, it is asked the same of those, and a verdict needs both.

    Raises:
        InvalidSettings, TransientError: as ``settle``; or the verifier cannot be asked at all.
    """
    found: list[Verdict | Failure] = [(None, None, one.reason) for one in asked.mine]
    places = [place for place, one in enumerate(asked.mine) if one.message is not None]
    questions = [_question(asked.points[place], asked.mine[place].message) for place in places]
    rivals = [one | {"answer": one["logged_answer"]} for one in questions] if asked.against == LOGGED else []
    said = await verifier.verified(setting, questions + rivals, beat)
    theirs: list[Said | Failure | None] = [*said[len(places) :]] or [None] * len(places)
    for place, one, other in zip(places, said[: len(places)], theirs, strict=True):
        found[place] = _beside(one, other)
    settle(claim, f"held_out.verifier = {verifier.judge_name(setting).removeprefix('verifier/')}", found)
    return _rows(asked, found)


def settle(claim: Claim, who: str, found: Sequence[Verdict | Failure]) -> None:
    """Make sure that asking again would not give those a verdict that have none; what was said is kept meanwhile.

    What fails again and again is given up with the last attempt, unless nothing has a verdict.

    Raises:
        InvalidSettings: nobody can be asked until a person mends something, or nothing has a verdict.
        Tomorrow: the judge's budget of the day is spent.
        TransientError: there may be a verdict in a moment.
    """
    failures = [one for one in found if isinstance(one, Failure)]
    judged = sum(not isinstance(one, Failure) and one[0] is not None for one in found)
    by_chance = {one.chance: one.reason for one in failures}
    lacking = f"{len(found) - judged} of {len(found)} answers of {claim.inputs['version']} have no verdict"
    if (reason := by_chance.get("mended")) is not None:
        raise InvalidSettings("held_out", who, f"{lacking}: {reason}; {_remedy(claim)}")
    transient = [one.reason for one in failures if one.chance in ("later", "tomorrow")]
    if transient and (claim.attempt < claim.max_attempts or (not judged and "tomorrow" not in by_chance)):
        raise TransientError(f"{lacking}: {transient[0]}")
    if (reason := by_chance.get("tomorrow")) is not None:
        raise Tomorrow(f"{lacking}: {reason}")
    if not judged:
        reasons = Counter(one.reason if isinstance(one, Failure) else one[2] for one in found)
        why = reasons.most_common(1)[0][0] or "the verifier says nothing"
        raise InvalidSettings("held_out", who, f"{lacking}: {why}; {_remedy(claim)}")


def _remedy(claim: Claim) -> str:
    return f"mend it, start the gpu workers again, then `rlfleet jobs requeue {claim.job_id}`"


def _unasked(mine: Answer, theirs: Answer) -> Verdict:
    if mine.message is None:
        return None, None, f"the version: {mine.reason}"
    return None, None, f"its rival: {theirs.reason}"


def _duel(point: Point, mine: dict[str, Any], theirs: dict[str, Any]) -> duel.Duel:
    messages = [message.model_dump(exclude_none=True) for message in point.call.messages]
    return duel.Duel(messages, point.call.tools or [], mine, theirs, point.trajectory.archetype)


async def _judged(client: JudgeClient, one: duel.Duel, judge: Judge) -> Verdict | Failure:
    """The duel in both orders; the first order that has no answer says why there is no verdict."""
    preferred = []
    for side in duel.sides(one, judge):
        answer = await client.asked(side)
        if isinstance(answer, Failure):
            return answer
        preferred.append(side.prefers_candidate(answer.answer["better"]))
    return *duel.verdict(*preferred), None


async def _all(work: Sequence[Any], beat: Beat) -> list[Verdict | Failure]:
    """Every outcome, in order. The first that raises, or a beat that does, cancels the others."""
    done: list[Verdict | Failure] = []

    async def counted(one: Any) -> Verdict | Failure:
        found: Verdict | Failure = await one
        done.append(found)
        beat(None, len(done), len(work))
        return found

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(counted(one)) for one in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [task.result() for task in tasks]


def _beside(mine: Said | Failure, logged: Said | Failure | None) -> Verdict | Failure:
    """What the verifier says of the version's answer, and of the logged one where that is asked about."""
    if isinstance(mine, Failure) or logged is None:
        return mine if isinstance(mine, Failure) else (mine.right, None, mine.reason)
    if isinstance(logged, Failure):
        return replace(logged, reason=f"the logged answer: {logged.reason}")
    if mine.right is None or logged.right is None:
        return None, None, mine.reason if mine.right is None else f"the logged answer: {logged.reason}"
    return mine.right, logged.right, mine.reason


def _question(point: Point, answer: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "scenario_id": point.scenario_id,
        "messages": [message.model_dump(exclude_none=True) for message in point.call.messages],
        "tools": point.call.tools or [],
        "answer": answer,
        "logged_answer": point.call.response.model_dump(exclude_none=True),
        "metadata": point.trajectory.metadata,
    }


def _rows(asked: Asked, found: Sequence[Verdict | Failure]) -> list[dict[str, Any]]:
    both = zip(asked.points, asked.mine, found, strict=True)
    return [_row(point, asked.sample, mine, one) for point, mine, one in both]


def _damage(mine: Answer) -> str | None:
    """How the answer is broken, in words; None where it is not, or calls a tool."""
    content = "" if mine.message is None else mine.message.get("content") or ""
    if mine.message is None or mine.message.get("tool_calls") or not isinstance(content, str):
        return None
    return reason_of(broken(content), at_limit=False)


def _row(point: Point, sample: int, mine: Answer, found: Verdict | Failure) -> dict[str, Any]:
    right, rival_right, reason = (None, None, found.reason) if isinstance(found, Failure) else found
    if right is not None and (damage := _damage(mine)):
        reason = "; ".join(filter(None, (damage, reason)))
    return {
        "scenario_id": point.scenario_id,
        "sample": sample,
        "right": right,
        "rival_right": rival_right,
        "content_hash": content_hash(point),
        "turns": 1,
        "type": point.type,
        "reason": reason,
    }
