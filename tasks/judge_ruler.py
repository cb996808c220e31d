"""Judging by ART's ``ruler_score_group``: the same groups, ledger and budget, asked through its child process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from rl.judge_answers import Verdict
from rl.judge_prompt import encoded, request, told
from rl.judging import Group
from rl.scoring_config import Judge
from tasks.judge_client import Failure, Judged, Ledger, no_room

if TYPE_CHECKING:
    from backends.ruler import Failed, Scores

CHAT = frozenset({"system", "user", "assistant", "tool"})


async def ruled(
    groups: Sequence[Group],
    judge: Judge,
    ledger: Ledger,
    beat: Callable[[object, int, int], None],
    *,
    url: str,
    key: str,
) -> list[Judged | Failure]:
    """The outcome of each group, in order. Groups are set aside in the budget before the child starts.

    Raises:
        InvalidInput: ART is not installed.
        ChildLost: the child ended or was silent before all groups had an outcome.
        DatabaseUnavailable: the ledger cannot be read or written.
    """
    from backends import ruler

    ruler.require_art()
    outcomes: dict[str, Judged | Failure] = {}
    reserved: dict[str, tuple[str, Group, float]] = {}
    for group in groups:
        known = await asyncio.to_thread(_known, group, judge, ledger, reserved)
        if known is not None:
            outcomes[group.sha256] = known
    if reserved:
        asked = [_asked(group, judge) for _, group, _ in reserved.values()]
        async with aclosing(ruler.ruler_scores(_settings(judge, url, key), asked)) as answers:
            async for one in answers:
                outcomes[one.name] = await asyncio.to_thread(_taken, one, reserved[one.name], judge, ledger)
                beat(None, len(outcomes), len(groups))
    return [outcomes[group.sha256] for group in groups]


def _known(
    group: Group, judge: Judge, ledger: Ledger, reserved: dict[str, tuple[str, Group, float]]
) -> Judged | Failure | None:
    """What is known of the group without asking; None where a call was reserved for it."""
    if group.sha256 in reserved:
        return None
    kept = ledger.find(group.sha256)
    if kept is not None:
        return Judged.of(kept)
    most = judge.cost(request(group, judge).most_prompt_tokens, judge.max_tokens)
    reservation = ledger.reserve(judge.model, most, judge.daily_budget)
    if reservation is None:
        return no_room(judge, most)
    reserved[group.sha256] = reservation, group, most
    return None


def _taken(
    outcome: Scores | Failed, reserved: tuple[str, Group, float], judge: Judge, ledger: Ledger
) -> Judged | Failure:
    from backends.ruler import Failed
    from db.judgements import Usage

    reservation, group, most = reserved
    if isinstance(outcome, Failed):
        if not outcome.asked:
            ledger.give_back(reservation)
        else:
            ledger.refuse(reservation, outcome.reason, Usage(0, 0, most))
        return Failure(outcome.reason, "mended" if outcome.closed else "later" if outcome.transient else None)
    known = outcome.prompt_tokens is not None and outcome.completion_tokens is not None
    prompt, completion = outcome.prompt_tokens or 0, outcome.completion_tokens or 0
    usage = Usage(prompt, completion, judge.cost(prompt, completion) if known else most)
    verdicts = {one: Verdict(outcome.scores[one], outcome.explanations[one]) for one in outcome.scores}
    judged = Judged(verdicts, usage.cost)
    ledger.keep(reservation, group.sha256, judge.model, judged.answer(), usage)
    return judged


def _settings(judge: Judge, url: str, key: str) -> Any:
    from backends.ruler import Settings

    return Settings(
        model=judge.model if "/" in judge.model else f"openai/{judge.model}",
        api_base=url,
        api_key=SecretStr(key),
        temperature=judge.temperature,
        max_tokens=judge.max_tokens,
        limit_name=judge.limit_name,
        timeout_seconds=judge.timeout_seconds,
        concurrency=judge.concurrency,
    )


def _asked(group: Group, judge: Judge) -> Any:
    """The group for ART, which sees messages alone. Its order is that of our own judge's first answer."""
    from backends.ruler import Group as Asked

    shared, rest = told(group, judge)
    order = request(group, judge).views
    several = {group.views[one].sha256: [_message(message) for message in [*shared, *rest[one]]] for one in order}
    return Asked(name=group.sha256, rubric=group.rubric, trajectories=several)


def _message(message: dict[str, Any]) -> dict[str, object]:
    """A message as OpenAI's types have it; what has no place there is told in the content."""
    if message.get("role") not in CHAT:
        return {"role": "user", "content": encoded(message)}
    kept: dict[str, object] = {name: message[name] for name in ("role", "content") if name in message}
    kept.setdefault("content", "")
    others = {name: value for name, value in message.items() if name not in kept}
    if others:
        kept["content"] = f"{kept['content']}\n{json.dumps(others, sort_keys=True, default=str)}".lstrip()
    if kept["role"] == "tool":
        kept["tool_call_id"] = str(message.get("tool_call_id", ""))
    return kept
