from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.replies import action_of
from rl.records import Message


def said(*calls: dict[str, Any]) -> Message:
    return Message(role="assistant", tool_calls=list(calls))


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        ('{"b": 1, "a": [2]}', {"b": 1, "a": [2]}),
        ("{broken", "{broken"),
        ("[" * 100_000, "[" * 100_000),
        ("", ""),
        ({"a": 1}, {"a": 1}),
        (None, None),
    ],
)
def test_arguments_are_parsed_where_they_are_json(arguments: Any, heard: Any) -> None:
    action = action_of(said({"id": "1", "function": {"name": "buy", "arguments": arguments}}, {"id": "2"}))
    assert json.loads(str(action)) == {"name": "buy", "arguments": heard}


@pytest.mark.parametrize("call", [{}, {"function": None}, {"function": "buy"}, {"function": {}}])
def test_a_call_without_a_function_is_an_action_that_no_environment_knows(call: dict[str, Any]) -> None:
    assert json.loads(str(action_of(said(call)))) == {"name": None, "arguments": None}


def test_a_reply_without_calls_is_no_call() -> None:
    assert action_of(Message(role="assistant", content="hello")) is None
    assert action_of(Message(role="assistant", content="hello", tool_calls=[])) is None


@given(st.text())
def test_no_arguments_raise(arguments: str) -> None:
    assert json.loads(str(action_of(said({"function": {"name": "f", "arguments": arguments}}))))["name"] == "f"
