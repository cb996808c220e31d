"""Trainings with ART's service: rows and commands for them, and what is said, in this process or in the real one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from backends.art import ArtPlace
from backends.art_account import Account
from backends.art_child import client_of, groups_of
from backends.art_training import Training
from rl.protocol import EVENTS, Event, Failed, Progress, Remote, RemoteNoted, TrainCommand
from rl.remote import Artifact
from tests.art_stand_in import BASE, ENTITY, KEY, PROJECT, Service

NAME = "babylon-agent"
CONFIG: dict[str, Any] = {
    "objective": "grpo",
    "lora": {},
    "mini_batches": 1,
    "optimizer": {"learning_rate": 1e-5},
}
PARENT = Artifact(ENTITY, PROJECT, NAME, 0).uri


def row(place: int, score: float, group: str = "w/s", **call: Any) -> dict[str, Any]:
    spoken = {
        "call_id": f"secret-call-{place}",
        "turn": 0,
        "model": f"{NAME}-v1.0.0",
        "messages": [{"role": "user", "content": "left or right?", "name": "secret-agent"}],
        "response": {"role": "assistant", "content": "left"},
        "prompt_token_ids": [1, 2, 3],
        "token_ids": [7, 8],
        "logprobs": [-0.25, -0.5],
        "temperature": 1.0,
        "finish_reason": "stop",
    }
    return {"trajectory_id": f"secret-{place}", "group": group, "score": score, "calls": [spoken | call]}


def command(folder: Path, *rows: dict[str, Any], **fields: Any) -> TrainCommand:
    dataset = folder / "dataset.jsonl"
    dataset.write_text("".join(json.dumps(one) + "\n" for one in rows or (row(0, 1.0), row(1, 0.0))))
    values: dict[str, Any] = {"dataset": str(dataset), "parent": PARENT, "config": CONFIG}
    values |= {"backend": "art-serverless", "job": 7, "fence": 3, "out": str(folder), "base": BASE, "model": NAME}
    return TrainCommand(**values | fields)


def account(service: Service, **fields: Any) -> Account:
    values = {"base_url": service.url, "api_key": SecretStr(KEY), "entity": None, "project": PROJECT}
    return Account(**values | {"deadline_seconds": 60.0} | fields)


class Heard:
    """A supervisor in this process, that stores at once what it is told."""

    def __init__(self) -> None:
        self.pausing = False
        self.events: list[Event] = []

    def say(self, event: Event) -> None:
        self.events += [] if is_idle(event) else [EVENTS.validate_json(event.line())]

    async def stored(self) -> None:
        assert isinstance(self.events[-1], RemoteNoted)


def carried_out(told_of: Account, told: TrainCommand, until: str | None = None) -> list[Event]:
    """What is said, with ART's own client, in this process; up to a phase that is noted, where one is named."""

    class Left(Heard):
        async def stored(self) -> None:
            await super().stored()
            self.pausing = until is not None and until in noted(self.events)

    async def carry_out() -> list[Event]:
        heard = Left()
        async with client_of(told_of) as client:
            await Training(client, groups_of, told_of, told, heard).run()
        return heard.events

    return asyncio.run(carry_out())


def in_its_process(place: ArtPlace, told: TrainCommand) -> list[Event]:
    return [event for event in place.train(told) if event is not None and not is_idle(event)]


def is_idle(event: Event) -> bool:
    return isinstance(event, Progress) and not event.metrics


def noted(events: list[Event]) -> list[str]:
    return [event.phase for event in events if isinstance(event, RemoteNoted)]


def last_remote(events: list[Event]) -> Remote | None:
    return [event.remote for event in events if isinstance(event, RemoteNoted)][-1]


def failed(events: list[Event]) -> Failed:
    assert isinstance(events[-1], Failed), events
    return events[-1]
