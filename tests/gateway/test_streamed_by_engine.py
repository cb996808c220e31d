"""A real engine behind a real gateway: what is streamed and what is not are the same answer, and the same record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from torch import Tensor

from db.session import transaction
from db.tables import Checkpoint
from gpu.engine import EngineServer
from gpu.generate import Decoder
from gpu.policy import Policy
from gpu.starter import CHATML, build
from rl.records import Call
from tests.gateway.conftest import World
from tests.gateway.taught import WORDS

pytestmark = pytest.mark.slow

USER: Any = {"role": "user", "content": "You see: wall 4 ahead"}
TOOL: Any = {"type": "function", "function": {"name": "turn", "parameters": {"type": "object"}}}
TEMPLATE = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}" + CHATML.replace(
    "{{ m['content'] }}",
    "{% if m.reasoning_content is string %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m['content'] }}"
    '{% for c in m.tool_calls or [] %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": '
    "{{ c.function.arguments }}}\n</tool_call>{% endfor %}",
)
CALLS = "".join(
    f'<tool_call>\n{{"name": "turn", "arguments": {{"to": "{way}"}}}}\n</tool_call>\n' for way in ("left", "näher")
)
SAMPLED = {"temperature": 0.9, "max_tokens": 24, "seed": 11}
REPEATED = {"finish_reason", "model", "prompt_token_ids", "token_ids", "logprobs", "temperature", "messages", "tools"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    torch.set_num_threads(1)
    base = build(WORDS * 20, tmp_path_factory.mktemp("weights") / "base", seed=3, vocabulary=300)
    folder = Path(shutil.copytree(base, base.with_name("reasoning")))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    policy = Policy(torch.device("cpu"))
    policy.load("babylon-agent-v1.0.0", str(folder))
    return policy


@pytest.fixture
def client(world: World, policy: Policy) -> Iterator[openai.OpenAI]:
    server = EngineServer(policy)
    world.announce("cpu@test", server.start())
    world.release(0)
    assert world.names[0] == "babylon-agent-v1.0.0"
    loaded = policy.version(world.names[0])
    assert loaded is not None
    with transaction() as session:
        session.get_one(Checkpoint, world.versions[0].checkpoint_id).uri = loaded.path
    headers = {"X-Trajectory-Id": "t1", "X-Capture": "committed"}
    url = f"{world.gateway().base_url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, default_headers=headers) as client:
        yield client
    server.stop()


@pytest.fixture
def says(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes every version say a text."""

    def say(text: str) -> None:
        version = policy.version("babylon-agent-v1.0.0")
        assert version is not None
        ids = [*version.tokens.ids(text), version.tokens.eos_id]

        def sample(decoder: Decoder, logits: Tensor) -> tuple[list[int], list[float]]:
            return [ids[len(row.logprobs)] for row in decoder.rows], [-0.5] * len(decoder.rows)

        monkeypatch.setattr(Decoder, "_sample", sample)

    return say


def both(client: openai.OpenAI, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Message, finish reason, tokens and usage of the answer that is whole, and of the one that is streamed."""
    asked: Any = {"model": "main", "messages": [USER], **fields}
    whole: Any = client.chat.completions.create(**asked, extra_headers={"X-Call-Id": "whole"})
    choice = whole.choices[0].model_dump()
    message = {name: one for name, one in choice["message"].items() if one}
    first = {"message": message, "finish_reason": choice["finish_reason"], "token_ids": choice["token_ids"]}
    first |= {"logprobs": choice["logprobs"]["content"], "prompt": whole.prompt_token_ids}
    first |= {"usage": whole.usage.model_dump()}
    more: Any = {"stream": True, "stream_options": {"include_usage": True}, "logprobs": True}
    more["extra_body"] = {"return_token_ids": True} | asked.pop("extra_body", {})
    chunks = client.chat.completions.create(**asked, **more, extra_headers={"X-Call-Id": "streamed"})
    return first, together([one.model_dump() for one in chunks])


def together(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer in the chunks."""
    message: dict[str, Any] = {"role": "assistant"}
    got: dict[str, Any] = {"message": message, "token_ids": [], "logprobs": [], "prompt": chunks[0]["prompt_token_ids"]}
    for chunk in chunks:
        got["usage"] = chunk["usage"]
        for choice in chunk["choices"]:
            for name in ("content", "reasoning_content"):
                if text := choice["delta"].get(name):
                    message[name] = message.get(name, "") + text
            for call in choice["delta"].get("tool_calls") or ():
                plain = {name: one for name, one in call.items() if name != "index"}
                message.setdefault("tool_calls", []).append(plain)
            got["token_ids"] += choice["token_ids"] or []
            got["logprobs"] += (choice["logprobs"] or {}).get("content") or []
            got["finish_reason"] = choice["finish_reason"]
    return got


def recorded(world: World) -> list[Call]:
    found = {call.call_id: call for call in world.calls()}
    return [found["whole"], found["streamed"]]


def without_ids(call: Call) -> list[Any]:
    """Tool calls have ids of their own, which differ from answer to answer."""
    return [(one["type"], one["function"]) for one in call.response.tool_calls or ()]


def check(world: World, whole: dict[str, Any], streamed: dict[str, Any]) -> tuple[Call, Call]:
    for answer in (whole, streamed):
        for call in answer["message"].get("tool_calls", ()):
            call.pop("id")
    assert streamed == whole
    first, second = recorded(world)
    assert {name: getattr(first, name) for name in REPEATED} == {name: getattr(second, name) for name in REPEATED}
    assert (first.response.content, first.response.reasoning_content, without_ids(first)) == (
        second.response.content,
        second.response.reasoning_content,
        without_ids(second),
    )
    assert (second.token_ids, second.prompt_token_ids) == (streamed["token_ids"], streamed["prompt"])
    assert second.logprobs == pytest.approx([one["logprob"] for one in streamed["logprobs"]])
    return first, second


@pytest.mark.parametrize("fields", [SAMPLED, SAMPLED | {"stop": ["a", "e"]}])
def test_a_sampled_answer(world: World, client: openai.OpenAI, fields: dict[str, Any]) -> None:
    _, streamed = check(world, *both(client, **fields))

    assert streamed.has_tokens


@pytest.mark.parametrize(
    "text",
    [
        "turn left",
        "",
        "<think>\nThe way is blocked.\n</think>\n\nturn left",
        "<think>\nIs it?\n</think>\n\n" + CALLS,
        "I turn.\n" + CALLS,
        "<think>\nnever said to the end",
    ],
)
def test_reasoning_and_tool_calls(world: World, client: openai.OpenAI, says: Callable[[str], None], text: str) -> None:
    says(text)

    first, second = check(world, *both(client, tools=[TOOL], max_tokens=300))

    assert [call.tools for call in (first, second)] == [[TOOL]] * 2
    assert len(second.response.tool_calls or ()) == text.count("<tool_call>")
