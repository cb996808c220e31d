"""Scripted agents as conversations: what a model would have read and said in their place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from environments import calling
from environments.contract import Environment, Episode
from rl.errors import InvalidInput
from rl.records import Message, ScenarioRef

Policy = Callable[[Episode], str]


class Spoken(NamedTuple):
    """One turn: the messages that were read, the reply, and what it earned."""

    read: list[Message]
    reply: Message
    reward: float


class Conversation(NamedTuple):
    """One episode to its end. ``success`` is its verdict, ``kind`` its scenario's, ``tools`` what it offers."""

    turns: list[Spoken]
    reward: float
    success: bool
    truncated: bool
    kind: str
    content_hash: str
    tools: Sequence[Mapping[str, Any]]


def policy(name: str, ref: ScenarioRef) -> Policy:
    """The scripted agent of that name on one scenario: the environment's expert, chance, or one that does nothing.

    Raises:
        InvalidInput: there is no agent of that name.
    """
    chance = Random(f"{ref.id}/random")
    agents: dict[str, Policy] = {
        "oracle": lambda episode: episode.oracle(),
        "chance": lambda episode: episode.guess(chance),
        "silence": lambda episode: episode.environment.idle,
    }
    if name not in agents:
        raise InvalidInput("agent", name, f"scripted agents are {', '.join(agents)}")
    return agents[name]


def converse(environment: Environment, ref: ScenarioRef, agent: Policy) -> Conversation:
    """Play one episode; the same agent gives the same conversation.

    Raises:
        InvalidInput: the scenario belongs to another environment, or its split has no such seed.
        MissingDependency: what the environment is played with is not installed here.
    """
    episode = environment.open(ref)
    environment = episode.environment
    try:
        messages, done = episode.messages, False
        turns: list[Spoken] = []
        while not done:
            action = agent(episode)
            step = episode.step(action)
            done = step.done
            reply = _reply(episode.environment, action, len(turns))
            turns.append(Spoken(messages, reply, step.reward))
            messages = [*messages, reply, _answer(reply, step.observation)]
        reward = sum(turn.reward for turn in turns)
        told = episode.type, episode.content_hash, environment.tools
        return Conversation(turns, reward, reward >= environment.success, step.truncated, *told)
    finally:
        episode.close()


def _reply(environment: Environment, action: str, turn: int) -> Message:
    """The action as a model's message: a function call where it is one of the environment's."""
    if not environment.tools:
        return Message(role="assistant", content=action)
    try:
        call = calling.read(action, environment.tools)
    except calling.Miscalled:
        return Message(role="assistant", content=action)
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    return Message(role="assistant", tool_calls=[{"id": f"call-{turn}", "type": "function", "function": function}])


def _answer(reply: Message, observation: str | None) -> Message:
    if reply.tool_calls:
        return Message(role="tool", content=observation, tool_call_id=str(reply.tool_calls[0]["id"]))
    return Message(role="user", content=observation)


def texts(conversation: Conversation) -> Sequence[str]:
    """What was said in an episode, in order, for a tokenizer to be trained on."""
    *_, last = conversation.turns
    return [message.content for message in (*last.read, last.reply) if message.content]
