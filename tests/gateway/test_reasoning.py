"""Reasoning travels through the gateway and stays in the record."""

from __future__ import annotations

from typing import Any

import pytest

from rl.records import Message
from tests.gateway.conftest import World

USER = {"role": "user", "content": "You see: red ball 3 ahead"}
HELD = {"role": "assistant", "content": "turn left", "reasoning_content": "The ball is behind."}


@pytest.mark.parametrize("content", ["go to the red ball", None])
def test_reasoning_is_recorded_with_the_answer_and_with_the_turns_before(world: World, content: str | None) -> None:
    engine = world.engine()
    plain = engine.completion

    def reasoned(model: str, number: int) -> dict[str, Any]:
        answer = plain(model, number)
        answer["choices"][0]["message"] |= {"content": content, "reasoning_content": "It is near."}
        return answer

    engine.completion = reasoned  # type: ignore[method-assign]
    world.release(0)
    gateway = world.gateway()
    headers = {"X-Trajectory-Id": "t1", "X-Call-Id": "c1"}
    body = {"messages": [USER, HELD, USER]}

    first = gateway.post("/v1/chat/completions", json=body, headers=headers)
    again = gateway.post("/v1/chat/completions", json=body, headers=headers)

    assert engine.asked[0]["messages"] == [USER, HELD, USER]
    (call,) = world.calls()
    assert call.messages == [Message(**USER), Message(**HELD), Message(**USER)]
    assert call.response == Message(role="assistant", content=content, reasoning_content="It is near.")
    for response in (first, again):
        message = response.json()["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == (content, "It is near.")
