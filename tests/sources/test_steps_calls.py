"""One logged call in the shapes that people store, told as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rl.records import Call
from sources.calls import call_of, model_beside


def call(**fields: Any) -> Call:
    found = call_of({"userPrompt": "q", "response": "a", "model": "m"} | fields, call_id="c", turn=2)
    assert found is not None
    return found


def sent(found: Call) -> list[tuple[str, str | None]]:
    return [(message.role, message.content) for message in found.messages]


def test_prompts_are_told_to_the_letter() -> None:
    found = call(systemPrompt="  You trade.\n", userPrompt="Buy?\t\u00e9\U0001f600 ", response=" yes\n")
    assert sent(found) == [("system", "  You trade.\n"), ("user", "Buy?\t\u00e9\U0001f600 ")]
    assert (found.response.content, found.call_id, found.turn) == (" yes\n", "c", 2)


def test_the_version_is_the_model_that_spoke() -> None:
    assert (call().model, call(modelVersion="m-2025").model, call(model=None).model) == ("m", "m-2025", "unknown")
    assert model_beside({"model": "m", "modelVersion": "m-2025"}) == ("m-2025", "m")
    assert model_beside({"model": "m", "modelVersion": "m"}) is None
    assert model_beside("no call") is None


MESSAGES = [{"role": "developer", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "u"}]}]


@pytest.mark.parametrize("told", [{"messages": MESSAGES}, {"messagesJson": json.dumps(MESSAGES)}, {"prompt": MESSAGES}])
def test_messages_win_over_the_two_prompts(told: dict[str, Any]) -> None:
    assert sent(call(**told)) == [("system", "s"), ("user", "u")]


@pytest.mark.parametrize("broken", ["[{", "[1]", '[{"content": "no role"}]', "[]", "[" * 1000])
def test_messages_that_cannot_be_read_leave_the_prompts(broken: str) -> None:
    assert sent(call(messagesJson=broken)) == [("user", "q")]


def test_a_conversation_that_ends_with_the_answer_is_cut_before_it() -> None:
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert sent(call(messages=talk)) == [("user", "q")]
    alone = call(messages=talk, response=None)
    assert (sent(alone), alone.response.content) == ([("user", "q")], "a")
    longer = call(messages=talk, response="another")
    assert sent(longer) == [("user", "q"), ("assistant", "a")], "an answer that was begun by the caller stays"


TOOL = {"id": "1", "type": "function", "function": {"name": "buy", "arguments": "{}"}}


@pytest.mark.parametrize(
    "told",
    [
        {"toolCalls": [TOOL], "response": None},
        {"tool_calls": json.dumps([TOOL]), "response": ""},
        {"response": {"role": "assistant", "content": None, "tool_calls": [TOOL]}},
        {"response": {"choices": [{"message": {"role": "assistant", "tool_calls": [TOOL]}}]}},
    ],
)
def test_tool_calls_are_an_answer(told: dict[str, Any]) -> None:
    found = call(**told, tools=[{"type": "function", "function": {"name": "buy"}}])
    assert found.response.tool_calls == [TOOL]
    assert found.tools == [{"type": "function", "function": {"name": "buy"}}]


def test_reasoning_is_kept_apart_from_the_answer() -> None:
    assert call(reasoning="why").response.model_dump(exclude_none=True) == {
        "role": "assistant",
        "content": "a",
        "reasoning_content": "why",
    }
    own = {"role": "assistant", "content": "a", "reasoning_content": "its own"}
    assert call(response=own, reasoning="beside").response.reasoning_content == "its own"


def test_tokens_come_together_or_not_at_all() -> None:
    three = {"promptTokenIds": [1, 2], "tokenIds": "[3, 4]", "logprobs": [-0.5, "-1"]}
    found = call(**three)
    assert (found.prompt_token_ids, found.token_ids, found.logprobs) == ([1, 2], [3, 4], [-0.5, -1.0])
    for spoiled in ({"logprobs": [-0.5]}, {"tokenIds": None}, {"logprobs": [-0.5, "NaN"]}, {"tokenIds": [3, "x"]}):
        assert not call(**three | spoiled).has_tokens


def test_temperature_may_be_a_text_or_nonsense() -> None:
    assert [call(temperature=value).temperature for value in (0.7, "0.7", "hot", None)] == [0.7, 0.7, None, None]


@pytest.mark.parametrize(
    "raw",
    [
        None,
        7,
        {},
        {"response": "a"},
        {"userPrompt": "q"},
        {"userPrompt": "q", "response": 7},
        {"userPrompt": "q", "response": "a", "tools": {"by": "name"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "response": "a"},
        {"messages": [{"role": "robot", "content": "q"}], "response": "a"},
        {"response": {"choices": ["x"]}, "userPrompt": "q"},
    ],
)
def test_what_is_no_whole_call_is_none(raw: object) -> None:
    assert call_of(raw, call_id="c", turn=0) is None
