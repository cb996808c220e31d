from __future__ import annotations

import pytest

import environments
from environments.scripted import converse, policy, texts
from rl.errors import InvalidInput
from rl.records import ScenarioRef


def _ref(environment: str, seed: int = 0) -> ScenarioRef:
    return ScenarioRef(environment=environment, split="train", seed=seed)


def test_a_conversation_is_what_a_model_would_have_read_and_said() -> None:
    environment, ref = environments.load("textcraft-small"), _ref("textcraft-small", 1)
    played = converse(environment, ref, policy("oracle", ref))
    assert (played.reward, played.success, played.truncated, played.kind) == (1.0, True, False, "depth2")
    assert [turn.reward for turn in played.turns] == [0.0] * (len(played.turns) - 1) + [1.0]
    for before, after in zip(played.turns, played.turns[1:], strict=False):
        *said, observation = after.read
        assert said == [*before.read, before.reply]
        assert observation.role == "user"
    assert texts(played)[-1] == played.turns[-1].reply.content


@pytest.mark.parametrize(("agent", "solved"), [("oracle", 20), ("silence", 0)])
def test_agents_are_as_good_as_their_names(agent: str, solved: int) -> None:
    environment = environments.load("sat-small")
    refs = [_ref("sat-small", seed) for seed in range(20)]
    assert sum(converse(environment, ref, policy(agent, ref)).success for ref in refs) == solved


def test_chance_is_the_same_chance_each_time() -> None:
    environment, refs = environments.load("sat-small"), [_ref("sat-small", seed) for seed in range(20)]
    first = [converse(environment, ref, policy("chance", ref)) for ref in refs]
    assert first == [converse(environment, ref, policy("chance", ref)) for ref in refs]
    assert 0 < sum(one.success for one in first) < 20


def test_calls_of_functions_are_calls() -> None:
    environment, ref = environments.load("trading-tools"), _ref("trading-tools")
    played = converse(environment, ref, policy("oracle", ref))
    assert played.success
    for turn in played.turns:
        (call,) = turn.reply.tool_calls or []
        assert call["function"]["name"] in {tool["function"]["name"] for tool in environment.tools}
    answers = [message for message in played.turns[-1].read if message.role == "tool"]
    asked = [call["id"] for turn in played.turns[:-1] for call in turn.reply.tool_calls or []]
    assert [answer.tool_call_id for answer in answers] == asked


def test_a_member_of_a_mix_speaks_as_it_does_alone() -> None:
    name = "sat-small+trading-tools"
    mix = environments.load(name)
    plain, tools = (converse(mix, _ref(name, seed), policy("oracle", _ref(name, seed))) for seed in (0, 1))
    assert (plain.success, tools.success) == (True, True)
    assert plain.turns[0].reply.content
    assert tools.turns[0].reply.tool_calls


def test_an_agent_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInput, match="agent = 'magic': scripted agents are oracle, chance, silence"):
        policy("magic", _ref("sat-small"))
