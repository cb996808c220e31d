"""Episodes with function calls as a model reads and says them, in the templates that Qwen's are published with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trl

import environments
from environments.replies import action_of
from environments.scripted import converse
from gpu import tool_calls
from gpu.starter import train_tokenizer
from gpu.tokens import ChatTokens
from rl.records import Call, Message, ScenarioRef

TEMPLATES = Path(trl.__file__).parent / "chat_templates"


@pytest.mark.parametrize("template", ["qwen2_5", "qwen3_instruct_2507"])
@pytest.mark.parametrize("name", ["trading-tools", "webshop-tools"])
def test_a_demonstration_is_spoken_as_the_engine_hears_it(name: str, template: str) -> None:
    environment = environments.load(name)
    ref = ScenarioRef(environment=name, split="train", seed=3)
    turns = converse(environment, ref, lambda episode: episode.oracle()).turns
    tokenizer = train_tokenizer([message.content or "" for message in turns[-1].read], vocabulary=512)
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    tokens = ChatTokens(tokenizer)
    episode = environment.open(ref)
    held: list[int] = []
    for turn, spoken in enumerate(turns):
        tools = [dict(tool) for tool in environment.tools]
        call = Call(call_id=f"c{turn}", turn=turn, model="o", messages=spoken.read, response=spoken.reply, tools=tools)
        prompt, answer = tokens.answer(call)
        assert prompt[: len(held)] == held, "a turn goes on from the ids of those before it"
        held = prompt + answer
        content, calls = tool_calls.split(tokens.decode(answer))
        assert content == ""
        heard = action_of(Message(role="assistant", tool_calls=calls))
        assert heard is not None
        assert json.loads(heard) == json.loads(episode.oracle())
        episode.step(heard)
    assert '"name": "' + environment.tools[0]["function"]["name"] in tokens.decode(held)
