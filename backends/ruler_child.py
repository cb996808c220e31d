"""The process that speaks with ART: groups in on stdin, outcomes out on stdout, a JSON object a line.

ART and LiteLLM print to stdout, so the real one is kept for outcomes and they get stderr. The first line has the
settings, the others a group each.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
from contextvars import ContextVar
from typing import Any, TextIO

from backends.ruler import Failed, Group, Scores, Settings
from rl.judge_answers import Malformed, parse, storable

TAGS = re.compile(r"<(?=/?(?:trajectory|context|available_tools)\b)", re.IGNORECASE)
TRANSIENT = ("Timeout", "APIConnectionError", "InternalServerError", "RateLimitError", "ServiceUnavailableError")
CLOSED = ("AuthenticationError", "PermissionDeniedError", "NotFoundError")


CURRENT: ContextVar[Answers] = ContextVar("answers")
"""Those of the group that this asyncio task scores."""


class Refused(Exception):
    """An answer of the judge that must not become scores."""


class Answers:
    """Stands between ART and LiteLLM for one group: checks each answer, and sorts it by its ids."""

    def __init__(self, complete: Any, count: int) -> None:
        self._complete, self._count = complete, count
        self.asked = False
        self.usage: tuple[int, int] | None = None

    async def __call__(self, **request: Any) -> Any:
        self.asked = True
        response = await self._complete(**request)
        usage = getattr(response, "usage", None)
        if usage is not None:
            self.usage = int(usage.prompt_tokens), int(usage.completion_tokens)
        message = response.choices[0].message
        message.content = self.sorted(message.content or "")
        return response

    def sorted(self, content: str) -> str:
        """The answer with one score for each trajectory, in the order that ART takes them to have."""
        ids = [str(number) for number in range(1, self._count + 1)]
        found = parse(content, ids)
        if isinstance(found, Malformed):
            raise Refused(f"the judge's answer cannot be used: {found.reason}")
        return json.dumps({"scores": [{"trajectory_id": one, **found[one]._asdict()} for one in ids]})


async def score(settings: Settings, group: Group) -> Scores | Failed:
    """The outcome of one group; nothing but a broken process makes it raise."""
    import art
    import litellm
    from art.rewards import ruler_score_group

    ids = list(group.trajectories)
    answers = Answers(litellm.acompletion, 1 if _all_equal(group) else len(ids))
    CURRENT.set(answers)
    try:
        several = [art.Trajectory(messages_and_choices=defused(one)) for one in group.trajectories.values()]
        parameters = _parameters(settings)
        scored = await ruler_score_group(
            art.TrajectoryGroup(several), settings.model, extra_litellm_params=parameters, rubric=group.rubric
        )
        if scored is None:
            raise Refused("ART's ruler gave nothing back")
    except Exception as error:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        reason = str(error) if isinstance(error, Refused) else f"ART's ruler failed ({type(error).__name__})"
        transient, closed = not kinds.isdisjoint(TRANSIENT), not kinds.isdisjoint(CLOSED)
        return Failed(name=group.name, reason=reason, transient=transient, closed=closed, asked=answers.asked)
    prompt, completion = answers.usage or (None, None)
    return Scores(
        name=group.name,
        scores={one: float(trajectory.reward) for one, trajectory in zip(ids, scored.trajectories, strict=True)},
        explanations={one: _explained(trajectory) for one, trajectory in zip(ids, scored.trajectories, strict=True)},
        prompt_tokens=prompt,
        completion_tokens=completion,
    )


def defused(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without the tags that ART puts around trajectories: it pastes text as it is."""
    return [{name: _defused(value) for name, value in message.items()} for message in messages]


def _defused(value: Any) -> Any:
    if isinstance(value, str):
        return TAGS.sub("&lt;", value)
    if isinstance(value, dict):
        return {name: _defused(one) for name, one in value.items()}
    return [_defused(one) for one in value] if isinstance(value, list) else value


def _all_equal(group: Group) -> bool:
    several = list(group.trajectories.values())
    return all(one == several[0] for one in several)


def _explained(trajectory: Any) -> str:
    return storable(next((line for line in trajectory.logs if "explanation" in line.lower()), ""))


def _parameters(settings: Settings) -> dict[str, object]:
    parameters: dict[str, object] = {
        "api_base": settings.api_base,
        "api_key": settings.api_key.get_secret_value() or "none",
        "num_retries": 0,
        "max_retries": 0,
        "timeout": settings.timeout_seconds,
        settings.limit_name: settings.max_tokens,
    }
    return parameters | ({} if settings.temperature is None else {"temperature": settings.temperature})


async def main(lines: TextIO, outcomes: TextIO) -> None:
    """Score every group, some at a time, and say each outcome as soon as it is there."""
    settings = Settings.model_validate_json(lines.readline())
    places = asyncio.Semaphore(settings.concurrency)
    _stand_between()

    async def one(group: Group) -> None:
        async with places:
            outcome = await score(settings, group)
        outcomes.write(outcome.model_dump_json() + "\n")
        outcomes.flush()

    await asyncio.gather(*(one(Group.model_validate_json(line)) for line in lines))


def _stand_between() -> None:
    """Have ART ask through the ``Answers`` of the group at hand. Its package hides the module behind a function."""
    module = importlib.import_module("art.rewards.ruler")

    async def complete(**request: Any) -> Any:
        return await CURRENT.get()(**request)

    vars(module)["acompletion"] = complete


if __name__ == "__main__":
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asyncio.run(main(sys.stdin, kept))
