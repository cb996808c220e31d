"""Evaluating on logs: a version answers at held-out decision points, and a judge or a verifier says how well.

The device's child serves the checkpoint on loopback, and the rival's after it; nothing of it passes the gateway, so
nothing of it can become training data. What has no verdict says why; a verdict is never guessed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rl.config import digest
from rl.errors import CallFailed, InvalidInput, InvalidRow, PermanentError
from rl.held_out import LOGGED
from rl.remote import is_remote

if TYPE_CHECKING:
    from db.held_out import Point
    from db.jobs import Claim
    from db.tables import Checkpoint, Version
    from environments.agent import ChatClient
    from rl.evaluating import Shard
    from rl.held_out import LoggedSet
    from rl.redaction import Redaction
    from tasks.carry import Lease

CONCURRENCY = 64
MOST_KEPT = 4_096
REFUSED = "the engine refused the prompt"
FAILED = "the engine failed at the prompt, and answered others"
_kept: OrderedDict[str, Answer] = OrderedDict()
"""Answers that this process has got lately: of a rival that several checkpoints meet, and of an attempt before."""


@dataclass(frozen=True)
class Answer:
    """The message that a version answered with, or why there is none."""

    message: dict[str, Any] | None
    reason: str | None = None


@dataclass
class Asked:
    """What one shard asks about, and of whom. ``rival`` is the name and folder of the version to compare with."""

    points: list[Point]
    sample: int
    redaction: Redaction
    against: str = ""
    rival: tuple[str, str] | None = None
    mine: list[Answer] = field(default_factory=list)
    theirs: list[Answer] = field(default_factory=list)


async def shard(claim: Claim, task_set: LoggedSet, version: Version, checkpoint: Checkpoint, lease: Lease) -> Shard:
    """The verdicts of the places of the task set that the claim names, on that checkpoint of the version.

    A half for choosing of which the logs hold no point has none.

    Raises:
        InvalidInput: the logs hold no point to ask about for the decision.
        InvalidSettings: no judge or verifier can be asked; see ``tasks.judgement``.
        EngineUnavailable: the engine does not answer, or cannot load a checkpoint.
        TransientError: the judge or the verifier does not answer at the moment.
        Tomorrow: the judge's budget of the day is spent.
    """
    from rl import duel
    from rl.evaluating import Shard
    from tasks import engine, judgement, verifier

    about = {"stage": "evaluate", "version": version.name, "split": task_set.split}
    judge = verifier.judge_name(str(task_set.verifier)) if task_set.judge is None else duel.judge_name(task_set.judge)
    asked = await lease.during(asyncio.to_thread(_look, claim, task_set, version))
    if not asked.points:
        return Shard(judge, judgement.prompt_hash(task_set), asked.against)
    mine = engine.name_of(version.name, checkpoint.sha256)
    asked.mine = await _answers(asked, task_set, mine, checkpoint.uri, lease, about)
    if task_set.judge is None:
        setting = str(task_set.verifier)
        found = await lease.during(judgement.verified(claim, setting, asked, lease.count(about | {"by": "verifier"})))
        return Shard(judge, judgement.prompt_hash(task_set), asked.against, found)
    if asked.rival is None:
        asked.theirs = [Answer(point.call.response.model_dump(exclude_none=True)) for point in asked.points]
    else:
        name, uri = asked.rival
        theirs = engine.name_of(name, asked.against)
        asked.theirs = await _answers(asked, task_set, theirs, uri, lease, about | {"version": name})
    found = await lease.during(judgement.duelled(claim, task_set.judge, asked, lease.count(about | {"by": "judge"})))
    return Shard(judge, judgement.prompt_hash(task_set), asked.against, found)


def _look(claim: Claim, task_set: LoggedSet, version: Version) -> Asked:
    """The points of the shard, and what their answers are compared with."""
    from db import held_out, redacting, versions
    from db.session import transaction

    first, count = int(claim.inputs.get("first", 0)), int(claim.inputs.get("count", task_set.count))
    again = "held" in claim.inputs or "missing" in claim.inputs
    whole = again or (first, count) == (0, task_set.count)
    with transaction() as session:
        redaction = redacting.of_line(session, claim.line_id)
        both, against, rival = [version.id], task_set.against, None
        if against not in ("", LOGGED):
            other, checkpoint = versions.named(session, against)
            both, against, rival = [version.id, other.id], checkpoint.sha256, (other.name, checkpoint.uri)
        # The first evaluation fixes the scenarios of the others; who is asked again is asked about those of all.
        known = held_out.known_of(session, claim.line_id, task_set) if whole else []
        most = max(task_set.count, len(known)) if again else task_set.count
        points = held_out.points(session, claim.line_id, task_set, both, redaction, known=known, most=most)
    points = points if whole else points[first : first + count]
    if not points and task_set.split == "held_out":
        remedy = (
            f"from {task_set.since} to {task_set.until} the logs hold no scenario that is held out, was not trained on"
            " and has a call with a prompt and an answer; raise held_out.share or held_out.hours"
        )
        raise InvalidInput("held_out.share", task_set.share, remedy)
    return Asked(points, int(claim.inputs.get("sample", 0)), redaction, against, rival)


async def _answers(
    asked: Asked, task_set: LoggedSet, served: str, uri: str, lease: Lease, about: dict[str, Any]
) -> list[Answer]:
    """The answers of the checkpoint at ``uri``, which the engine calls ``served``, at each point, in order.

    Those that this process has are not asked for again.
    """
    from environments.agent import ChatClient
    from tasks.engine import serve_version

    keys = [_key(point, asked, task_set, uri) for point in asked.points]
    missing = [place for place, key in enumerate(keys) if key not in _kept]
    answers = {place: _kept[key] for place, key in enumerate(keys) if key in _kept}
    if missing:
        there = await lease.during(serve_version(served, uri, lease.beat))
        limits = (task_set.sampled_at, task_set.max_tokens, "evaluation")
        client = ChatClient(*there, *limits, names=not is_remote(uri))
        async with client as chat:
            beat = lease.count(about)
            answers |= await lease.during(_ask(chat, asked, missing, beat))
    for place in missing:
        if answers[place].reason != FAILED:  # who is asked again may answer
            _keep(keys[place], answers[place])
    return [answers[place] for place in range(len(keys))]


async def _ask(chat: ChatClient, asked: Asked, places: Sequence[int], beat: Any) -> dict[int, Answer]:
    found: dict[int, Answer] = {}
    waiting = iter(places)

    async def asker() -> None:
        for place in waiting:
            found[place] = await _one(chat, asked.points[place], asked.sample, asked.redaction)
            beat(None, len(found), len(places))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONCURRENCY, len(places))):
                group.create_task(asker())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return found


async def _one(chat: ChatClient, point: Point, sample: int, redaction: Redaction) -> Answer:
    """The answer as it may be shown: without what the line takes out of texts."""
    messages = [message.model_dump(exclude_none=True) for message in point.call.messages]
    seed = int(digest(point.call.call_id, sample)[:7], 16)
    try:
        said = await chat.answer(messages, point.call.tools, seed)
    except CallFailed:
        return Answer(None, FAILED)
    except PermanentError:
        return Answer(None, REFUSED)
    names = {"content": "content", "tool_calls": "tool_calls", "reasoning": "reasoning_content"}
    message = {ours: said[name] for name, ours in names.items() if said.get(name)}
    if said.get("reasoning_content"):
        message["reasoning_content"] = said["reasoning_content"]
    return await asyncio.to_thread(_shown, point, {"role": "assistant", "content": ""} | message, redaction)


def _shown(point: Point, message: dict[str, Any], redaction: Redaction) -> Answer:
    from pydantic import ValidationError

    from db.redacting import clean
    from rl.records import Message

    try:
        call = point.call.model_copy(update={"response": Message.model_validate(message)})
        whole = point.trajectory.model_copy(update={"calls": [call]})
        kept = clean(whole, redaction)[0] if redaction.is_set else whole
    except ValidationError:
        return Answer(None, "the answer is no message of a chat")
    except InvalidRow as error:
        return Answer(None, f"the answer is shown to nobody: {error.remedy}")
    return Answer(kept.calls[0].response.model_dump(exclude_none=True))


def _key(point: Point, asked: Asked, task_set: LoggedSet, uri: str) -> str:
    """What an answer depends on, as it may be shown: what the line takes out of texts may change meanwhile."""
    how = task_set.max_tokens, task_set.sampled_at, asked.sample, asked.redaction.model_dump(mode="json")
    return digest(uri, content_hash(point), point.call.call_id, *how)


def _keep(key: str, answer: Answer) -> None:
    _kept[key] = answer
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)


def content_hash(point: Point) -> str:
    """The hash of what was asked: the messages and the tools."""
    return digest([message.model_dump(exclude_none=True) for message in point.call.messages], point.call.tools)
