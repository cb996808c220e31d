"""A round of a run before a real gateway, with an engine that says what a test wants."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from db import jobs, lines, planning
from db.jobs import Claim
from db.session import transaction
from environments import play
from rl import planner
from rl.config import GrpoTrain, Lora, Optimizer, Rollout, RunConfig, TaskSet
from rl.line_state import OpenRound
from rl.records import ScenarioRef
from tasks.carry import Lease
from tasks.rollout import from_rollout
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.tasks.rows import claimed, one, rows

WINDOW = "run/demo/0001"
PATIENCE_SECONDS = 120.0
Said = str | dict[str, Any] | Response
Model = Callable[[dict[str, Any]], Said]
"""From a request's body to the reply's content, its message, or the whole answer."""


def be_patient(monkeypatch: pytest.MonkeyPatch, *but: int) -> None:
    """Give all scenarios but these the time they want, whatever a round says: a machine that is busy is no stall."""
    plain = play.play

    def patient(environment: Any, ref: ScenarioRef, chat: Any, name: str, seed: Any, stall: float, threads: Any) -> Any:
        seconds = stall if ref.seed in but else PATIENCE_SECONDS
        return plain(environment, ref, chat, name, seed, seconds, threads)

    monkeypatch.setattr(play, "play", patient)


class Player(FakeEngine):
    """Says what ``model`` says, with the tokens that an engine of ours gives; 503 from answer ``most`` on.

    It answers what it ``hangs_on`` when it does so no more, or its caller is gone, and greets who says nothing of a
    round. ``mute`` are answers without tokens.
    """

    model: Model
    most: int | None = None
    hangs_on: Callable[[dict[str, Any]], bool] | None = None
    mute: Callable[[dict[str, Any]], bool] | None = None

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if self.most is not None and len(self.asked) >= self.most:
            return JSONResponse({"error": {"message": "draining"}}, 503, {"Retry-After": "0.1"})
        if len(body["messages"]) == 1:
            return JSONResponse(self.completion(body["model"], 0))
        self.asked.append(body)
        while self.hangs_on is not None and self.hangs_on(body) and not await request.is_disconnected():
            await asyncio.sleep(0.01)
        said = self.model(body)
        if isinstance(said, Response):
            return said
        self.has_tokens = self.mute is None or not self.mute(body)
        answer = self.completion(body["model"], len(self.asked))
        message = {"content": said} if isinstance(said, str) else said
        answer["choices"][0]["message"] = {"role": "assistant"} | message
        return JSONResponse(answer)


def walks(body: dict[str, Any]) -> str:
    """To the goal if it is seen, else it turns: solves every ``babyai-goto``."""
    text = body["messages"][-1]["content"]
    goal = re.search(r"go to (?:the|a) (\w+ \w+)\nYou see: (.*)", text)
    assert goal is not None
    return f"go to {goal[1]}" if goal[1] in goal[2] else "turn right"


def refusal(status: int, message: str, code: str | None = None) -> Response:
    """An answer in OpenAI's form that is no completion."""
    return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": code}}, status)


class Round:
    """The first round of the run ``demo``, whose jobs are asked for; ``engine`` plays for the stable version."""

    def __init__(self, world: World, model: Model, answer_seconds: float = 120, **rollout: Any) -> None:
        self.world, self.line = world, world.line.id
        self.engine = Player()
        self.engine.model = model
        world.announce("cpu@test", world.serve(self.engine.app()))
        limits = {"RLFLEET_ANSWER_SECONDS": str(answer_seconds), "RLFLEET_BREAKER_SECONDS": "0.01"}
        self.url = str(world.gateway(**limits).base_url)
        given = {"environment": "babyai-goto", "scenarios": 4, "episodes": 2} | rollout
        config = RunConfig(
            name="demo",
            rounds=1,
            rollout=Rollout(**given),
            train=GrpoTrain(optimizer=Optimizer(learning_rate=1e-4), lora=Lora(rank=4)),
            validation=TaskSet(environment="babyai-goto", split="validation", count=4),
            held_out=TaskSet(environment="babyai-goto", split="held_out", count=4),
        )
        with transaction() as session:
            lines.start_run(session, self.line, config, world.versions[0].id)
            planning.open_round(session, self.line, OpenRound("demo", WINDOW))
            state = planning.line_state(session, lines.named(session, "main"))
            (window,) = state.windows
            wants = planner.collect(state, window)
            self.jobs = [planning.request(session, self.line, want) for want in wants]

    def play(self, job: int, seconds: float = 60) -> dict[str, Any]:
        """Do the job as a worker does; its result."""
        claim = claimed(job, seconds)
        return self.finish(claim, from_rollout(claim, Lease(claim, seconds)))

    def finish(self, claim: Claim, effect: Any) -> dict[str, Any]:
        with transaction() as session:
            return dict(jobs.finish(session, claim, effect))

    def state(self) -> str:
        """The window's."""
        return str(one("select state from rlfleet.windows where name = :name", name=WINDOW)[0])

    def stored(self) -> list[str]:
        """The ids of the round's trajectories."""
        return [row[0] for row in rows("select trajectory_id from rlfleet.trajectories order by 1")]

    def episodes(self) -> list[str]:
        """The stored episodes, without the attempts that played them."""
        return [name.removeprefix(f"{WINDOW}/").rpartition("/fence-")[0] for name in self.stored()]

    def quarantined(self) -> list[tuple[str, str, str, str]]:
        """Source, row, field and reason of what is no trajectory, by row: conversations end in any order."""
        return sorted(tuple(row) for row in rows('select source, "row", field, reason from rlfleet.quarantine'))


def every(scenarios: int, episodes: int) -> list[str]:
    """The names of all episodes of a first round."""
    return sorted(f"{seed}/{sample}" for seed in range(scenarios) for sample in range(episodes))
