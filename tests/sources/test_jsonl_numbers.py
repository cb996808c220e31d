"""Numbers that no JSON column holds are refused row by row, so that they never stop a whole window."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rl.errors import InvalidRow
from sources.jsonl import parse


def row(metadata: dict[str, Any], **fields: Any) -> str:
    call = {"call_id": "c", "turn": 0, "model": "m", "messages": [{"role": "user", "content": "q"}]}
    spoken = {"response": {"role": "assistant", "content": "a"}}
    moment = "2025-01-15T10:00:00Z"
    names = {"trajectory_id": "t", "scenario_id": "s", "agent_id": "a", "started_at": moment, "ended_at": moment}
    return json.dumps(names | {"reward": 1.0, "metadata": metadata, "calls": [call | spoken | fields]})


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (row({"latency": float("nan")}), "metadata"),
        (row({"deep": [{"x": float("-inf")}]}), "metadata"),
        (row({"x": 1}).replace('"x": 1', '"x": 1e999'), "metadata"),
        (row({}, temperature=float("nan")), "calls"),
        (row({}, prompt_token_ids=[1], token_ids=[2], logprobs=[float("nan")]), "calls"),
        (row({}, response={"role": "assistant", "tool_calls": [{"x": float("inf")}]}), "calls"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_where_it_stands(line: str, field: str) -> None:
    with pytest.raises(InvalidRow) as caught:
        parse(line)
    assert (caught.value.field, caught.value.remedy) == (field, "holds a number that is not finite")


def test_finite_numbers_pass() -> None:
    assert parse(row({"latency": 1.5, "huge": 1e308})).metadata == {"latency": 1.5, "huge": 1e308}
