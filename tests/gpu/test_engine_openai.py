"""The engine through OpenAI's own client: streams, stop sequences and tool calls."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from torch import Tensor

from gpu.engine import EngineServer
from gpu.generate import Decoder
from gpu.policy import Policy
from gpu.starter import CHATML
from rl.errors import OutOfMemory

USER = {"role": "user", "content": "You see: wall 4 ahead"}
TOOL = {"type": "function", "function": {"name": "turn", "parameters": {"type": "object"}}}
CALL = '{"name": "turn", "arguments": {"to": "left"}}'

# As in Qwen3's template: the tools first, and calls after the content, each in a block of its own.
WITH_TOOLS = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
) + CHATML.replace(
    "{{ m['content'] }}",
    "{{ m['content'] }}{% for c in m.tool_calls or [] %}{% if not loop.first or m['content'] %}\n{% endif %}"
    '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments }}}\n</tool_call>{% endfor %}',
)

Script = Callable[[str], list[int]]


@pytest.fixture
def client(base: Path, tmp_path: Path, policy: Policy) -> Iterator[openai.OpenAI]:
    folder = Path(shutil.copytree(base, tmp_path / "with-tools"))
    (folder / "chat_template.jinja").write_text(WITH_TOOLS)
    policy.load("v1", str(base))
    policy.load("tools", str(folder))
    server = EngineServer(policy)
    with openai.OpenAI(base_url=server.start() + "/v1", api_key="none", timeout=30, max_retries=0) as client:
        yield client
    server.stop()


@pytest.fixture
def script(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes every version say a text, and returns its tokens."""

    def say(text: str) -> list[int]:
        version = policy.version("tools")
        assert version is not None
        tokens = version.tokens
        ids = [*tokens.ids(text), tokens.eos_id]

        def sample(decoder: Decoder, logits: Tensor) -> tuple[list[int], list[float]]:
            return [ids[len(row.logprobs)] for row in decoder.rows], [-0.5] * len(decoder.rows)

        monkeypatch.setattr(Decoder, "_sample", sample)
        return ids

    return say


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "tools", "messages": [USER], "max_tokens": 200, **fields})


def spoken(chunks: list[Any]) -> tuple[str, list[int], list[float]]:
    """Content, token ids and log-probabilities of all chunks together."""
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    logprobs = [entry.logprob for choice in choices if choice.logprobs for entry in choice.logprobs.content]
    ids = [token for choice in choices for token in choice.token_ids]
    return "".join(choice.delta.content or "" for choice in choices), ids, logprobs


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    asked = {"model": "v1", "max_tokens": 24, "temperature": 0.9}
    for seed in range(8):
        whole = ask(client, seed=seed, **asked)
        chunks = list(ask(client, seed=seed, stream=True, **asked))
        choice = whole.choices[0]
        content, ids, logprobs = spoken(chunks)
        assert (content, ids) == (choice.message.content, choice.token_ids)
        assert logprobs == pytest.approx([entry.logprob for entry in choice.logprobs.content], abs=1e-5)
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[0].prompt_token_ids == whole.prompt_token_ids
        assert chunks[-1].choices[0].finish_reason == choice.finish_reason
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_last_when_it_is_asked_for(client: openai.OpenAI, script: Script) -> None:
    ids = script("turn left")
    *chunks, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.completion_tokens == len(ids)
    assert last.usage.total_tokens == len(chunks[0].prompt_token_ids) + len(ids)
    assert all(chunk.usage is None for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in ask(client, stream=True))


def test_tokens_come_while_the_rest_is_not_spoken(
    client: openai.OpenAI, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = policy.version("v1")
    assert version is not None
    token = version.tokens.ids("a")[0]
    three_came = threading.Event()

    def sample(decoder: Decoder, logits: Tensor) -> tuple[list[int], list[float]]:
        assert len(decoder.rows[0].logprobs) != 3 or three_came.wait(20)
        return [token], [0.0]

    monkeypatch.setattr(Decoder, "_sample", sample)
    with ask(client, model="v1", max_tokens=10, stream=True) as stream:
        heard = 0
        for chunk in stream:
            heard += len(chunk.choices[0].token_ids)
            if heard == 3:
                three_came.set()
    assert heard == 10


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_ends_the_answer_before_it(client: openai.OpenAI, script: Script, stream: bool) -> None:
    ids = script("turn left, then move forward")
    answer = ask(client, stop=["then", "nobody"], stream=stream)
    if stream:
        chunks = list(answer)
        content, tokens, _ = spoken(chunks)
        choice = chunks[-1].choices[0]
    else:
        choice = answer.choices[0]
        content, tokens = choice.message.content, choice.token_ids
    assert content == "turn left, "
    assert (choice.finish_reason, choice.stop_reason) == ("stop", "then")
    assert tokens == ids[: len(tokens)]
    assert len(tokens) < len(ids) - 2


def test_one_stop_sequence_may_be_a_string(client: openai.OpenAI, script: Script) -> None:
    script("turn left, then move forward")
    assert ask(client, stop=",").choices[0].message.content == "turn left"


def test_a_turn_that_was_cut_is_encoded_as_it_is_shown(client: openai.OpenAI, script: Script, policy: Policy) -> None:
    script("turn left, then move forward")
    said = ask(client, stop="then").choices[0].message
    following = ask(client, messages=[USER, {"role": "assistant", "content": said.content}, USER])
    version = policy.version("tools")
    assert version is not None
    shown = version.tokens.decode(following.prompt_token_ids)
    assert "turn left, \n" in shown
    assert "then" not in shown


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_are_parsed(client: openai.OpenAI, script: Script, stream: bool) -> None:
    ids = script(f"I turn.\n<tool_call>\n{CALL}\n</tool_call>")
    answer = ask(client, tools=[TOOL], stream=stream)
    if stream:
        chunks = list(answer)
        content, tokens, _ = spoken(chunks)
        choice = chunks[-1].choices[0]
        (call,) = choice.delta.tool_calls
        assert call.index == 0
    else:
        choice = answer.choices[0]
        content, tokens = choice.message.content, choice.token_ids
        (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert content == "I turn."
    assert (call.type, call.function.name) == ("function", "turn")
    assert json.loads(call.function.arguments) == {"to": "left"}
    assert tokens == ids, "what is trained on is all that was spoken"


def test_the_turn_after_a_tool_call_goes_on_from_its_tokens(client: openai.OpenAI, script: Script) -> None:
    script(f"<tool_call>\n{CALL}\n</tool_call>")
    first = ask(client, tools=[TOOL])
    message = first.choices[0].message
    assert message.content is None
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "wall 3 ahead"}
    second = ask(client, tools=[TOOL], messages=[USER, message.model_dump(exclude_none=True), result])
    held = first.prompt_token_ids + first.choices[0].token_ids
    assert second.prompt_token_ids[: len(held)] == held


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("spoken_text", ["<tool_call>\n{turn left}\n</tool_call>", f"<tool_call>{CALL}", "a <tool"])
def test_malformed_calls_stay_content(client: openai.OpenAI, script: Script, spoken_text: str, stream: bool) -> None:
    script(spoken_text)
    answer = ask(client, tools=[TOOL], stream=stream)
    if stream:
        chunks = list(answer)
        assert spoken(chunks)[0] == spoken_text
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        assert answer.choices[0].message.content == spoken_text
        assert answer.choices[0].message.tool_calls is None
        assert answer.choices[0].finish_reason == "stop"


def test_without_tools_a_block_is_content(client: openai.OpenAI, script: Script) -> None:
    script(f"<tool_call>{CALL}</tool_call>")
    for fields in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        answer = ask(client, **fields)
        assert answer.choices[0].message.content == f"<tool_call>{CALL}</tool_call>"
        assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("broken", "says"),
    [(ValueError("private"), "The engine failed"), (OutOfMemory("lower token_budget"), "lower token_budget")],
)
def test_a_failure_on_the_way_ends_the_stream_with_an_error(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, broken: Exception, says: str
) -> None:
    def sample(decoder: Decoder, logits: Tensor) -> tuple[list[int], list[float]]:
        if decoder.rows[0].logprobs:
            raise broken
        return [5] * len(decoder.rows), [0.0] * len(decoder.rows)

    monkeypatch.setattr(Decoder, "_sample", sample)
    with pytest.raises(openai.APIError, match=says):
        list(ask(client, stream=True))


def test_a_refused_stream_has_a_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody"):
        ask(client, model="nobody", stream=True)
    with pytest.raises(openai.BadRequestError, match="include_obfuscation"):
        ask(client, stream=True, stream_options={"include_obfuscation": False})
