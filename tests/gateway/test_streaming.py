from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import Spoken, parse_answer
from gateway.streaming import END, Heard, event, events_of
from rl.errors import EngineUnavailable

CALL = {"id": "call-1", "type": "function", "function": {"name": "turn", "arguments": '{"to": "left"}'}}
OTHER = {"id": "call-2", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def chunk(delta: dict[str, Any], *tokens: tuple[int, float], finish: str | None = None, **more: Any) -> dict[str, Any]:
    logprobs = {"content": [{"token": "t", "logprob": logprob} for _, logprob in tokens]} if tokens else None
    choice = {
        "index": 0,
        "delta": delta,
        "finish_reason": finish,
        "logprobs": logprobs,
        "token_ids": [one for one, _ in tokens],
    }
    return {"id": "c", "object": "chat.completion.chunk", "model": "v1.0.3", "choices": [choice], **more}


CHUNKS = [
    chunk({"role": "assistant", "content": ""}, prompt_token_ids=[5, 6]),
    chunk({"reasoning_content": "It is "}, (1, -0.5)),
    chunk({"reasoning": "näh."}, (2, -0.25), (3, -1.0)),
    chunk({"content": "I "}, (4, -2.0)),
    chunk({"content": "turn."}, (7, 0.0)),
    chunk({"tool_calls": [{"index": 0, **CALL, "function": {"name": "turn", "arguments": '{"to":'}}]}, (8, -0.5)),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "left"}'}}, {"index": 1, **OTHER}]}, (9, -0.75)),
    chunk({}, (10, -0.125), finish="tool_calls"),
    {"id": "c", "object": "chat.completion.chunk", "model": "v1.0.3", "choices": [], "usage": {"total_tokens": 10}},
]
RAW = b"".join(map(event, CHUNKS)) + END
SPOKEN = Spoken(
    {
        "role": "assistant",
        "content": "I turn.",
        "reasoning_content": "It is näh.",
        "tool_calls": [CALL, OTHER],
    },
    "tool_calls",
    "v1.0.3",
    [5, 6],
    [1, 2, 3, 4, 7, 8, 9, 10],
    [-0.5, -0.25, -1.0, -2.0, 0.0, -0.5, -0.75, -0.125],
)
EVERYTHING = {"logprobs": True, "return_token_ids": True}


def parsed(raw: bytes) -> list[Any]:
    """What the events hold; the last must be [DONE]."""
    *events, last, rest = raw.split(b"\n\n")
    assert (last, rest) == (b"data: [DONE]", b"")
    return [json.loads(one.removeprefix(b"data: ")) for one in events]


@given(st.lists(st.integers(0, len(RAW)), max_size=30), st.booleans())
def test_an_answer_is_put_together_however_its_bytes_are_cut(cuts: list[int], has_returns: bool) -> None:
    raw = RAW.replace(b"\n", b"\r\n") if has_returns else RAW
    heard, ends = Heard(EVERYTHING), [0, *sorted(cuts), len(raw)]

    given = b"".join(heard.feed(raw[start:end]) for start, end in itertools.pairwise(ends))

    assert heard.is_done
    assert heard.spoken() == SPOKEN
    assert parsed(given + heard.last) == CHUNKS


def test_the_end_is_held_until_the_call_is_recorded() -> None:
    heard = Heard(EVERYTHING)

    given = heard.feed(RAW)

    assert given == b"".join(map(event, CHUNKS[:7]))
    assert heard.last == b"".join(map(event, CHUNKS[7:])) + END


@pytest.mark.parametrize(
    ("wants", "fields"),
    [
        ({}, set()),
        ({"logprobs": True}, {"logprobs"}),
        ({"return_token_ids": True, "logprobs": False}, {"token_ids", "prompt_token_ids"}),
    ],
)
def test_the_caller_gets_the_token_fields_that_it_asked_for(wants: dict[str, Any], fields: set[str]) -> None:
    heard = Heard(wants)

    chunks = parsed(heard.feed(RAW) + heard.last)

    assert {name for one in chunks for name in one} - {"id", "object", "model", "choices", "usage"} <= fields
    choices = [choice for one in chunks for choice in one["choices"]]
    plain = {"index", "delta", "finish_reason"}
    assert [set(choice) - plain for choice in choices] == [fields - {"prompt_token_ids"}] * 8
    assert [choice["delta"] for choice in choices] == [one["choices"][0]["delta"] for one in CHUNKS[:-1]]
    assert heard.spoken() == SPOKEN


def test_an_answer_has_begun_once_something_of_it_was_said() -> None:
    heard = Heard({})

    heard.feed(b": a comment\n\n" + event(CHUNKS[0]))
    assert not heard.has_begun
    heard.feed(event(CHUNKS[1]))
    assert heard.has_begun


def test_an_answer_without_a_word_is_an_empty_one() -> None:
    heard = Heard({})
    heard.feed(event(CHUNKS[0]) + event(chunk({}, (2, -0.5), finish="stop")) + END)

    assert heard.spoken() == Spoken({"role": "assistant", "content": ""}, "stop", "v1.0.3", [5, 6], [2], [-0.5])


@pytest.mark.parametrize("missing", ["token_ids", "logprobs"])
def test_tokens_are_kept_together_or_not_at_all(missing: str) -> None:
    heard = Heard({})
    lacking = chunk({"content": "I "}, (4, -2.0), finish="stop")
    del lacking["choices"][0][missing]
    heard.feed(event(CHUNKS[0]) + event(lacking) + END)

    spoken = heard.spoken()
    assert (spoken.prompt_token_ids, spoken.token_ids, spoken.logprobs) == (None, None, None)
    assert spoken.response == {"role": "assistant", "content": "I "}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'data: {"error": {"message": "out of memory"}}\n\n', "failed: out of memory"),
        (b'data: {"error": "no"}\n\n', "failed: no"),
        (b"data: <html>\n\n", "none of a chat completion"),
        (b'data: {"choices": [{}]}\n\n', "none of a chat completion"),
        (b"data: []\n\n", "none of a chat completion"),
        (b'data: {"choices": [{"delta": {"content": 3}}]}\n\n', "none of a chat completion"),
        (b'data: {"choices": [{"delta": {}, "logprobs": {"content": [{"logprob": NaN}]}}]}\n\n', "NaN is not JSON"),
        (b"x" * (2**24 + 1), "an event of more than"),
    ],
)
def test_what_is_no_stream_is_the_engines_failure(raw: bytes, says: str) -> None:
    with pytest.raises(EngineUnavailable, match=says):
        Heard({}).feed(raw)


def test_a_connection_that_ends_is_an_end_only_where_the_answer_had_said_why() -> None:
    heard = Heard({})
    heard.feed(event(CHUNKS[0]) + event(CHUNKS[3]))
    with pytest.raises(EngineUnavailable, match="broke off in the middle"):
        heard.end()

    heard.feed(event(chunk({}, finish="stop")))
    heard.end()
    assert heard.is_done


@pytest.mark.parametrize("has_usage", [True, False])
def test_a_whole_completion_as_a_stream_says_the_same(has_usage: bool) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "It is near.", "tool_calls": [CALL, OTHER]}
    logprobs = {"content": [{"token": "t", "logprob": -0.5}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls", "token_ids": [1], "logprobs": logprobs}
    whole = {"id": "c", "created": 1, "model": "v1", "prompt_token_ids": [5], "choices": [choice]}
    whole |= {"usage": {"total_tokens": 2}}
    wants = EVERYTHING | {"stream_options": {"include_usage": has_usage}}
    heard = Heard(wants)

    chunks = parsed(heard.feed(events_of(whole, wants)) + heard.last)

    assert heard.spoken() == parse_answer(json.dumps(whole).encode())
    assert [one["usage"] for one in chunks if "usage" in one] == [{"total_tokens": 2}] * has_usage
    assert chunks[0]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **CALL}, {"index": 1, **OTHER}]
