"""Qwen3's blocks as OpenAI's tool calls."""

import pytest

from gpu.tool_calls import as_objects, split

LEFT = '<tool_call>\n{"name": "turn", "arguments": {"to": "left"}}\n</tool_call>'


def test_calls_are_taken_out_of_the_content() -> None:
    content, calls = split(f'I turn.\n{LEFT}\n<tool_call>\n{{"name": "look"}}\n</tool_call>')
    assert content == "I turn."
    assert [call["type"] for call in calls] == ["function", "function"]
    assert [call["function"] for call in calls] == [
        {"name": "turn", "arguments": '{"to": "left"}'},
        {"name": "look", "arguments": "{}"},
    ]
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize(
    "block",
    [
        "{'name': 'turn'}",
        '{"name": "turn", "arguments": "left"}',
        '{"name": "", "arguments": {}}',
        '{"arguments": {}}',
        '["turn"]',
        '{"name": "turn", "arguments": {}, "more": 1}',
    ],
)
def test_what_is_no_call_stays_content(block: str) -> None:
    spoken = f"<tool_call>{block}</tool_call>"
    assert split(spoken) == (spoken, [])
    content, calls = split(f"{LEFT}{spoken}")
    assert content == spoken
    assert len(calls) == 1


def test_a_block_that_was_cut_stays_content() -> None:
    assert split('<tool_call>{"name": "turn"') == ('<tool_call>{"name": "turn"', [])


def test_half_of_a_surrogate_pair_is_a_question_mark() -> None:
    _, (call,) = split(
        r'<tool_call>{"name": "f\udfff", "arguments": {"\ud800": "red \ud83d\ude00 \\ud800"}}</tool_call>'
    )
    assert call["function"] == {"name": "f?", "arguments": r'{"?": "red 😀 \\ud800"}'}
    heard = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": r'{"a": ["\ud800"]}'}}]}
    assert as_objects(heard)["tool_calls"][0]["function"]["arguments"] == {"a": ["?"]}
