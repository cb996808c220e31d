"""Reasoning through OpenAI's own client, with vLLM's field names."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from torch import Tensor

from gpu.engine import EngineServer
from gpu.generate import Decoder
from gpu.policy import Policy
from gpu.starter import CHATML

USER = {"role": "user", "content": "You see: wall 4 ahead"}
TOOL = {"type": "function", "function": {"name": "turn", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "turn", "arguments": {"to": "left"}}\n</tool_call>'

# As in Qwen3's template: the block before the content, and calls after it.
REASONING = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}" + CHATML.replace(
    "{{ m['content'] }}",
    "{% if m.reasoning_content is string %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m['content'] }}"
    '{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": '
    "{{ c.function.arguments }}}\n</tool_call>{% endfor %}",
)
OPENED = REASONING.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")

Script = Callable[[str], list[int]]


@pytest.fixture
def policy() -> Policy:
    return Policy(torch.device("cpu"), max_bases=3)


@pytest.fixture
def client(base: Path, tmp_path: Path, policy: Policy) -> Iterator[openai.OpenAI]:
    policy.load("plain", str(base))
    for name, template in (("reasoning", REASONING), ("opened", OPENED)):
        folder = Path(shutil.copytree(base, tmp_path / name))
        (folder / "chat_template.jinja").write_text(template)
        policy.load(name, str(folder))
    server = EngineServer(policy)
    with openai.OpenAI(base_url=server.start() + "/v1", api_key="none", timeout=30, max_retries=0) as client:
        yield client
    server.stop()


@pytest.fixture
def script(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes every version say a text, and returns its tokens."""

    def say(text: str) -> list[int]:
        version = policy.version("plain")
        assert version is not None
        ids = [*version.tokens.ids(text), version.tokens.eos_id]

        def sample(decoder: Decoder, logits: Tensor) -> tuple[list[int], list[float]]:
            return [ids[len(row.logprobs)] for row in decoder.rows], [-0.5] * len(decoder.rows)

        monkeypatch.setattr(Decoder, "_sample", sample)
        return ids

    return say


def ask(client: openai.OpenAI, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """The answer's message, finish reason and tokens, put together where they come in a stream."""
    asked = {"model": "reasoning", "messages": [USER], "max_tokens": 300, "stream": stream, **fields}
    answer: Any = client.chat.completions.create(**asked)
    if not stream:
        choice = answer.choices[0].model_dump()
        return {"prompt": answer.prompt_token_ids, **choice["message"], **choice}
    chunks = [chunk.model_dump() for chunk in answer]
    said: dict[str, Any] = {"prompt": chunks[0]["prompt_token_ids"], "token_ids": [], "content": None}
    for choice in (chunk["choices"][0] for chunk in chunks):
        for name in ("reasoning_content", "content"):
            if choice["delta"].get(name):
                said[name] = (said.get(name) or "") + choice["delta"][name]
        said["token_ids"] += choice["token_ids"]
        said |= {"finish_reason": choice["finish_reason"], "tool_calls": choice["delta"].get("tool_calls")}
    return said


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_apart_from_the_content(client: openai.OpenAI, script: Script, stream: bool) -> None:
    ids = script("<think>\nA wall.\n\nLeft is free.\n</think>\n\nturn left")
    said = ask(client, stream)
    assert said["reasoning_content"] == "A wall.\n\nLeft is free."
    assert said["content"] == "turn left"
    assert said["finish_reason"] == "stop"
    assert said["token_ids"] == ids, "what is trained on is all that was spoken"


@pytest.mark.parametrize("stream", [False, True])
def test_a_block_that_the_prompt_opens(client: openai.OpenAI, script: Script, stream: bool) -> None:
    script("Left is free.\n</think>\n\nturn left")
    said = ask(client, stream, model="opened")
    assert (said["reasoning_content"], said["content"]) == ("Left is free.", "turn left")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_cut_in_its_reasoning_has_no_content(
    client: openai.OpenAI, script: Script, stream: bool
) -> None:
    ids = script("<think>\nLeft is free.")
    said = ask(client, stream, max_tokens=len(ids) - 2)
    assert said["reasoning_content"] == "Left is free"
    assert said["content"] is None
    assert said["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_ends_reasoning_too(client: openai.OpenAI, script: Script, stream: bool) -> None:
    script("<think>\nLeft is free.\n</think>\n\nturn left")
    said = ask(client, stream, stop="free")
    assert (said["reasoning_content"], said["content"], said["finish_reason"]) == ("Left is ", None, "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_follow_reasoning(client: openai.OpenAI, script: Script, stream: bool) -> None:
    script(f"<think>\nI could say <tool_call>.\n</think>\n\n{CALL}")
    said = ask(client, stream, tools=[TOOL])
    assert said["reasoning_content"] == "I could say <tool_call>."
    assert said["content"] is None
    assert said["finish_reason"] == "tool_calls"
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"to": "left"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["plain", "reasoning"])
def test_an_answer_without_reasoning_has_no_such_field(
    client: openai.OpenAI, script: Script, model: str, stream: bool
) -> None:
    text = "<think>a</think>b" if model == "plain" else "a</think>b"
    script(text)
    said = ask(client, stream, model=model)
    assert said["content"] == text
    assert "reasoning_content" not in said


def test_the_next_turn_goes_on_from_the_tokens_of_the_reasoning(client: openai.OpenAI, script: Script) -> None:
    script(f"<think>\nLeft is free.\n</think>\n\n{CALL}")
    first = ask(client, tools=[TOOL])
    answer = {name: first[name] for name in ("role", "content", "reasoning_content", "tool_calls")} | {"content": ""}
    result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "wall 3 ahead"}
    second = ask(client, tools=[TOOL], messages=[USER, answer, result])
    held = first["prompt"] + first["token_ids"]
    assert second["prompt"][: len(held)] == held
