"""Playing scenarios with a model: an episode is a conversation between an environment and a chat client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from environments.agent import ChatClient
from environments.contract import Environment
from rl.health import broken
from rl.records import Message, Record, ScenarioRef


class Assignment(NamedTuple):
    """One episode to play. ``seed`` makes its sampling repeatable; None leaves that to the engine."""

    ref: ScenarioRef
    trajectory_id: str
    seed: int | None = None


class Outcome(Record):
    """How one episode went. ``success`` is the verdict: the rewards sum to 1. ``type`` is the kind of scenario.

    ``broken`` says how an answer was broken, if one was (``rl.health.broken``).
    """

    scenario_id: str
    trajectory_id: str
    reward: float
    success: bool
    turns: int
    truncated: bool
    content_hash: str
    type: str = ""
    broken: str | None = None


def call_seed(seed: int, turn: int) -> int:
    """The sampling seed of one call: below 2^31, and apart for the turns of one episode and its neighbours'."""
    return (seed * 8191 + turn) % 2**31


async def play(
    environment: Environment, ref: ScenarioRef, chat: ChatClient, trajectory_id: str, seed: int | None = None
) -> Outcome:
    """Play one episode to its end. What the model says is an action, sensible or not; it never raises.

    Raises:
        EngineUnavailable: the engine stayed away for longer than the client waits.
        PermanentError: the engine refuses the calls.
    """
    episode = environment.open(ref)
    messages, reward, turn = episode.messages, 0.0, 0
    damage: str | None = None
    while True:
        reply = await chat.complete(
            messages,
            trajectory_id=trajectory_id,
            turn=turn,
            call_id=f"{trajectory_id}-{turn}",
            seed=None if seed is None else call_seed(seed, turn),
        )
        damage = damage or broken(reply)
        step = episode.step(reply)
        reward += step.reward
        turn += 1
        if step.done:
            break
        messages += [Message(role="assistant", content=reply), Message(role="user", content=step.observation)]
    return Outcome(
        scenario_id=ref.id,
        trajectory_id=trajectory_id,
        reward=reward,
        success=reward >= 1.0,
        turns=turn,
        truncated=step.truncated,
        content_hash=episode.content_hash,
        type=str(getattr(episode, "type", "") or environment.name),
        broken=damage,
    )


async def play_many(
    environment: Environment,
    assignments: Sequence[Assignment],
    chat: ChatClient,
    concurrency: int,
    on_done: Callable[[Outcome, int, int], None],
) -> list[Outcome]:
    """Play all, at most ``concurrency`` at a time. Outcomes are in the order of the assignments.

    ``on_done(outcome, done, total)`` is called as each episode ends. The first error stops all the others.

    Raises:
        EngineUnavailable: as ``play``.
        PermanentError: as ``play``.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(assignments))

    async def player() -> None:
        for index, (ref, trajectory_id, seed) in waiting:
            outcomes[index] = await play(environment, ref, chat, trajectory_id, seed)
            on_done(outcomes[index], len(outcomes), len(assignments))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(assignments))):
                group.create_task(player())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [outcomes[index] for index in range(len(assignments))]
