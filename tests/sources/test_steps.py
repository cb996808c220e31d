"""Steps in every shape and mixture become the same turns; what cannot be used is refused with the field and reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.errors import InvalidRow
from sources.steps import Steps, add_logged, parse


def step(number: Any, **fields: Any) -> dict[str, Any]:
    call = {
        "model": "m",
        "systemPrompt": "be brief",
        "userPrompt": f"what at {number}?",
        "response": f"answer {number}",
    }
    return {"stepNumber": number, "llmCalls": [call], "action": {"actionType": "BUY"}, "reward": 0.5} | fields


def read(*steps: Any, name: str = "t") -> Steps:
    return parse(json.dumps(list(steps)), name)


def told(found: Steps) -> list[tuple[str, int, str | None]]:
    return [(call.call_id, call.turn, call.response.content) for call in found.calls]


def test_the_recorders_shape() -> None:
    action = {"actionType": "BUY_SHARES", "parameters": {"marketId": "m1", "side": "YES"}, "success": True}
    action |= {"result": {"shares": 3}, "correctness": {"predictionCorrect": True, "actualOutcome": "YES"}}
    seen = {"agentBalance": 990.5, "agentPnL": -9.5, "openPositions": 1, "mood": "calm"}
    provider = {"providerName": "news", "data": {"x": 1}, "purpose": "context"}
    one = step(
        0, timestamp=1736935500000, environmentState=seen, providerAccesses=[provider], action=action, reward=-1.5
    )
    (turn,) = read(one).turns
    assert (turn.turn, turn.at, turn.reward) == (0, datetime(2025, 1, 15, 10, 5, tzinfo=UTC), -1.5)
    assert turn.state == seen | {"providerAccesses": ["news"]}
    assert turn.action is not None
    assert (turn.action.kind, turn.action.parameters) == ("BUY_SHARES", {"marketId": "m1", "side": "YES"})
    assert (turn.action.success, turn.action.result, turn.action.error) == (True, {"shares": 3}, None)
    assert turn.outcome == {"predictionCorrect": True, "actualOutcome": "YES"}


def test_the_plugins_shape() -> None:
    action = {"attemptId": "a1", "actionName": "CREATE_POST", "immediateReward": "2", "success": "false", "error": "no"}
    one = step(
        3, observation={"unread": 2}, environmentState={"agentPnL": "12.5"}, action=action, stepId="s", done=True
    )
    del one["reward"]
    one["llmCalls"][0] |= {"callId": "own-id", "topP": 1, "promptTokens": 5}
    found = read(one)
    (turn,) = found.turns
    assert (turn.turn, turn.reward, turn.state) == (3, 2.0, {"agentPnL": 12.5, "observation": {"unread": 2}})
    assert turn.action is not None
    assert (turn.action.kind, turn.action.success, turn.action.error) == ("CREATE_POST", False, "no")
    assert told(found) == [("own-id", 3, "answer 3")]


def test_the_books_shape_with_one_call_a_step() -> None:
    seen = {"marketPrices": {"ACME": 3}, "portfolio": {"cash": 10}}
    one = {"observation": seen, "prompt": "sell?", "response": "no", "action": "wait", "reward": 1}
    found = read(one | {"executionResult": {"success": True, "cost": 0}}, {**one, "prompt": "and now?"})
    first = found.turns[0]
    assert (first.turn, first.state, first.reward) == (0, seen, 1.0)
    assert first.action is not None
    assert (first.action.kind, first.action.success, first.action.result) == (
        "wait",
        True,
        {"success": True, "cost": 0},
    )
    assert told(found) == [("t-call-0-0", 0, "no"), ("t-call-1-0", 1, "no")]
    assert found.calls[0].messages[0].model_dump(exclude_none=True) == {"role": "user", "content": "sell?"}


def test_snake_case_and_camel_case_mix() -> None:
    call = {"model": "m", "system_prompt": "s", "userPrompt": "u", "response": "r", "reasoning_content": "because"}
    action = {"action_type": "DM", "params": {"to": "bob"}}
    state = {"agent_pnl": "4", "agent_balance": 5}
    found = read({"step_number": "7", "llm_calls": [call], "action": action, "environment_state": state})
    assert found.turns[0].state == {"agentPnL": 4.0, "agentBalance": 5}
    assert found.turns[0].action is not None
    assert found.turns[0].action.model_dump(exclude_none=True) == {"kind": "DM", "parameters": {"to": "bob"}}
    assert told(found) == [("t-call-7-0", 7, "r")]
    assert found.calls[0].response.reasoning_content == "because"


def test_every_call_of_a_step_is_kept_in_order() -> None:
    calls = [{"userPrompt": f"q{i}", "response": f"a{i}", "model": "m"} for i in range(3)]
    found = read(step(0, llmCalls=calls[:2]), step(1, llmCalls=calls[2:]))
    assert told(found) == [("t-call-0-0", 0, "a0"), ("t-call-0-1", 0, "a1"), ("t-call-1-0", 1, "a2")]


def test_steps_come_in_the_order_of_their_numbers_and_gaps_stay() -> None:
    found = read(step(7), step("2"), step(4.0))
    assert [turn.turn for turn in found.turns] == [2, 4, 7]
    assert [call.turn for call in found.calls] == [2, 4, 7]


def test_a_step_that_is_there_twice_counts_once() -> None:
    assert [turn.turn for turn in read(step(0), step(1), step(0)).turns] == [0, 1]


def test_different_steps_with_one_number_are_numbered_anew() -> None:
    found = read(step(1, reward=3), step(0, reward=1), step(1, reward=4), step(None, reward=5), step(-2, reward=6))
    assert [(turn.turn, turn.reward) for turn in found.turns] == [(0, 1.0), (1, 3.0), (2, 4.0), (3, 5.0), (4, 6.0)]


def test_a_call_without_prompt_or_response_is_left_out_and_counted() -> None:
    calls = [
        {"userPrompt": "", "systemPrompt": " ", "response": "a"},
        {"userPrompt": "q", "response": ""},
        {"userPrompt": "q", "response": {"parsed": 1}},
        {"userPrompt": "q", "response": "kept"},
        "no call",
    ]
    found = read(step(0, llmCalls=calls))
    assert told(found) == [("t-call-0-3", 0, "kept")]
    assert found.left_out == 4


def test_one_call_id_for_two_calls_does_not_lose_one() -> None:
    calls = [{"callId": "x", "userPrompt": q, "response": "a"} for q in ("one", "one", "two", "two")]
    assert told(read(step(0, llmCalls=calls))) == [("x", 0, "a"), ("t-call-0-2", 0, "a"), ("t-call-0-3", 0, "a")]


def test_what_became_known_later_leaves_the_state_and_the_action() -> None:
    later = {"gameKnowledge": {"trueProbabilities": {"m": 1}}}
    action = {"actionType": "BUY", "correctness": {"perpCorrect": False}, "actual_outcomes": ["up"]}
    (turn,) = read(step(0, action=action, environmentState={"x": 1, "futureOutcomes": ["up"]}, **later)).turns
    assert turn.state == {"x": 1}
    assert turn.outcome == later | {"perpCorrect": False, "actual_outcomes": ["up"], "futureOutcomes": ["up"]}


def test_numbers_and_characters_that_postgres_cannot_hold() -> None:
    text = json.dumps(
        [step(0, environmentState={"a": float("nan"), "agentPnL": float("inf"), "n": 10**400, "t\0": "\ud83d"})]
    )
    (turn,) = parse(text.replace('"stepNumber"', '"timestamp": 1e999, "stepNumber"'), "t").turns
    assert turn.state == {"a": "NaN", "agentPnL": None, "n": 10**400, "t\ufffd": "?"}
    assert turn.at is None


@pytest.mark.parametrize("text", [None, "", "  ", "null", "[]", '"[]"', '{"steps": []}', '{"steps": null}'])
def test_no_steps_is_no_error(text: str | None) -> None:
    assert (parse(text, "t").turns, parse(text, "t").calls) == ([], [])


DEEP = '[{"action": {"parameters": ' + '{"a": ' * 70 + "1" + "}" * 70 + "}}]"


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        ("undefined", "stepsJson", "not JSON"),
        ('[{"stepNumber": 0', "stepsJson", "not JSON"),
        ("{}", "stepsJson", "not a list"),
        ("3", "stepsJson", "not a list"),
        ('["a"]', "stepsJson", "not an object"),
        ("[null]", "stepsJson", "not an object"),
        ("[" * 100_000, "stepsJson", "nested too deeply"),
        ("[" * 500 + "]" * 500, "stepsJson", "nested too deeply"),
        (DEEP, "stepsJson", "nested too deeply"),
        ('[{"reward": ' + "9" * 5000 + "}]", "stepsJson", "a number has too many digits"),
        ('[{"reward": 1}, {"reward": NaN}]', "stepsJson.1.reward", "not a finite number"),
        ('[{"reward": -Infinity}]', "stepsJson.0.reward", "not a finite number"),
        ('[{"reward": 1e999}]', "stepsJson.0.reward", "not a finite number"),
        ('[{"reward": "much"}]', "stepsJson.0.reward", "not a finite number"),
        ('[{"reward": ' + "9" * 400 + "}]", "stepsJson.0.reward", "not a finite number"),
        ('[{"reward": [1]}]', "stepsJson.0.reward", "not a finite number"),
        ('[{"reward": true}]', "stepsJson.0.reward", "not a finite number"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, field: str, reason: str) -> None:
    with pytest.raises(InvalidRow) as caught:
        parse(text, "t")
    assert (caught.value.field, caught.value.remedy) == (field, reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SHAPES = st.sampled_from(["stepNumber", "step", "timestamp", "environmentState", "observation", "action", "reward"])
SPOKEN = st.sampled_from(["llmCalls", "llm_calls", "prompt", "response", "messages", "systemPrompt", "tools"])
BESIDE = st.sampled_from(["providerAccesses", "executionResult", "correctness"])
NAMES = SHAPES | SPOKEN | BESIDE


@given(st.lists(st.dictionaries(NAMES, JSON, max_size=8), max_size=4))
def test_any_json_gives_turns_or_a_named_refusal(steps: list[dict[str, Any]]) -> None:
    try:
        found = parse(json.dumps(steps), "t")
    except InvalidRow:
        return
    numbers = [turn.turn for turn in found.turns]
    assert numbers == sorted(set(numbers))
    assert len({call.call_id for call in found.calls}) == len(found.calls)
    stored = [one.model_dump(mode="json") for one in (*found.turns, *found.calls)]
    dumped = json.dumps(stored, allow_nan=False, ensure_ascii=False)
    dumped.encode()
    assert "\\u0000" not in dumped


def logged(number: int, i: int = 0, **fields: Any) -> dict[str, Any]:
    ids = {"stepId": f"t-step-{number}", "callId": f"t-call-{number}-{i}"}
    return ids | {"model": "m", "userPrompt": f"q{number}", "response": f"logged {number}.{i}"} | fields


def test_logged_calls_fill_the_silent_turns_alone() -> None:
    found = read(step(0), step(1, llmCalls=[]), step(2))
    assert found.silent == {1}
    add_logged(found, [logged(0), logged(1), logged(1, 1), logged(2)], "t")
    assert [(call.turn, call.response.content) for call in found.calls] == [
        (0, "answer 0"),
        (1, "logged 1.0"),
        (1, "logged 1.1"),
        (2, "answer 2"),
    ]
    assert found.silent == set()


def test_logged_calls_are_all_taken_where_no_step_is_known() -> None:
    found = parse("null", "t")
    add_logged(found, [logged(0), logged(1), {"model": "m", "userPrompt": "q", "response": "of the same step"}], "t")
    assert told(found) == [
        ("t-call-0-0", 0, "logged 0.0"),
        ("t-call-1-0", 1, "logged 1.0"),
        ("t-call-1-1", 1, "of the same step"),
    ]
