from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.chat import parse_answer, parse_request
from gateway.errors import Refusal

USER = {"role": "user", "content": "hello"}


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [USER]} | fields).encode()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"{", "body: must be a JSON object"),
        (b"[]", "body: must be a JSON object"),
        (b'"\xff"', "body: must be a JSON object"),
        (b"[" * 100_000, "body: must be a JSON object"),
        (b'{"messages": [{"role": "user"}], "temperature": NaN}', "NaN is not JSON"),
        (b'{"messages": []}', "messages: must be a list"),
        (body(messages=["hello"]), r"messages\[0\]: must be an object whose role"),
        (body(messages=[USER, {"role": "function"}]), r"messages\[1\]: must be an object whose role"),
        (body(messages=[{"role": "user", "content": 3}]), r"messages\[0\].content: must be text"),
        (body(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "only text parts"),
        (body(model=""), "model: name a line"),
        (body(temperature=-1), "temperature: must be"),
        (body(temperature=True), "temperature: must be"),
        (body(stream="yes"), "stream: must be true or false"),
        (body(n=2), "n: must be 1"),
    ],
)
def test_a_request_that_cannot_be_used_is_refused_with_the_field(raw: bytes, says: str) -> None:
    with pytest.raises(Refusal, match=says) as refused:
        parse_request(raw)
    assert refused.value.status_code == 400


def test_defaults_are_said_to_the_engine() -> None:
    asked = parse_request(body(max_tokens=6))

    assert (asked.model, asked.temperature) == ("main", 1.0)
    assert json.loads(asked.for_engine("v1.0.0")) == {
        "messages": [USER],
        "max_tokens": 6,
        "model": "v1.0.0",
        "temperature": 1.0,
        "logprobs": True,
        "return_token_ids": True,
    }
    assert json.loads(asked.for_upstream("gpt-4o-mini")) == {
        "messages": [USER],
        "max_tokens": 6,
        "model": "gpt-4o-mini",
    }


def test_a_caller_cannot_name_an_adapter_of_sglang() -> None:
    asked = parse_request(body(lora_path="unreleased"))

    assert json.loads(asked.for_upstream("base")) == {"messages": [USER], "model": "base"}
    assert json.loads(asked.for_sglang("base", "v1.0.0"))["lora_path"] == "v1.0.0"


def test_messages_are_recorded_with_the_fields_of_a_record() -> None:
    tool_calls = [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    asked = parse_request(
        body(
            messages=[
                {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
                {"role": "assistant", "content": None, "tool_calls": tool_calls, "refusal": None},
                {"role": "tool", "tool_call_id": "1", "content": "a ball"},
            ]
        )
    )

    assert asked.messages == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "tool_calls": tool_calls},
        {"role": "tool", "tool_call_id": "1", "content": "a ball"},
    ]


def answer(**choice: Any) -> dict[str, Any]:
    logprobs = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -2.0}]}
    whole = {"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return {
        "model": "v1.0.0",
        "prompt_token_ids": [1, 2],
        "choices": [whole | {"token_ids": [3, 4], "logprobs": logprobs} | choice],
    }


def test_an_answer_is_read_with_its_tokens() -> None:
    spoken = parse_answer(json.dumps(answer()).encode())

    assert (spoken.prompt_token_ids, spoken.token_ids, spoken.logprobs) == ([1, 2], [3, 4], [-0.5, -2.0])
    assert (spoken.response, spoken.finish_reason) == ({"role": "assistant", "content": "hi"}, "stop")


@pytest.mark.parametrize("missing", [{"token_ids": None}, {"logprobs": None}, {"token_ids": [3]}])
def test_tokens_are_kept_together_or_not_at_all(missing: dict[str, Any]) -> None:
    spoken = parse_answer(json.dumps(answer(**missing)).encode())

    assert (spoken.prompt_token_ids, spoken.token_ids, spoken.logprobs) == (None, None, None)


def test_reasoning_is_recorded_under_one_name() -> None:
    said = answer(message={"role": "assistant", "content": "hi", "reasoning": "it greets", "tool_calls": []})

    assert parse_answer(json.dumps(said).encode()).response == {
        "role": "assistant",
        "content": "hi",
        "reasoning_content": "it greets",
    }


@pytest.mark.parametrize("raw", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b"[]"])
def test_what_is_not_a_completion_is_a_bad_gateway(raw: bytes) -> None:
    with pytest.raises(Refusal, match="not a chat completion") as refused:
        parse_answer(raw)
    assert refused.value.status_code == 502
