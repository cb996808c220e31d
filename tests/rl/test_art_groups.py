from __future__ import annotations

import json
from typing import Any

import pytest

from rl.art_groups import Chosen, choose
from rl.config import GrpoTrain, Lora, Optimizer
from rl.errors import InvalidInput, NoTrainingData


def config(**values: Any) -> GrpoTrain:
    return GrpoTrain(optimizer=Optimizer(learning_rate=1e-5), lora=Lora(), mini_batches=1, **values)


def call(turn: int, prompt: list[int], said: list[int], messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    known = {
        "call_id": f"c{turn}",
        "turn": turn,
        "model": "v1",
        "messages": messages,
        "response": {"role": "assistant", "content": "ok"},
        "prompt_token_ids": prompt,
        "token_ids": said,
        "logprobs": [-0.5] * len(said),
    }
    return known | more


USER = {"role": "user", "content": "q"}
PLAIN = call(0, [1], [2], [USER])


def row(name: str, group: str, score: float, *calls: dict[str, Any], staleness: int = 0) -> bytes:
    about = {"trajectory_id": name, "group": group, "score": score, "calls": list(calls or (PLAIN,))}
    return json.dumps(about | {"staleness": staleness}).encode()


def chosen(*lines: bytes, **values: Any) -> Chosen:
    return choose(lines, config(**values))


def rewards(found: Chosen) -> list[list[float]]:
    return [[one["reward"] for one in group] for group in found.groups]


def test_rows_that_teach_nothing_stay_here_and_are_counted() -> None:
    silent = call(0, [1], [], [USER])
    found = chosen(
        row("a", "g", 1.0),
        row("b", "g", 0.0),
        row("c", "equal", 1.0),
        row("d", "equal", 1.0),
        row("e", "lone", 1.0),
        row("f", "g", 0.5, silent),
    )
    assert rewards(found) == [[1.0, 0.0]]
    assert found.manifest() == {
        "read": 6,
        "used": 2,
        "groups": 1,
        "skipped": {"it says nothing": 1, "alone in its group": 1, "all scores of its group are equal": 2},
    }


def test_rules_of_the_config_choose_before_anything_is_sent() -> None:
    old, lone = row("o", "g", 0.25, staleness=3), [row("e", "one", 1.0), row("f", "another", 0.0)]
    pair = [row("a", "g", 1.0), row("b", "g", 0.5)]
    assert rewards(chosen(*pair, old, max_staleness=2)) == [[1.0, 0.5]]
    assert rewards(chosen(*lone, lone="pooled")) == [[1.0, 0.0]]
    solved = [row("c", "h", 2.0), row("d", "h", 1.5)]
    assert rewards(chosen(*pair, *solved, filter={"low": 0.0, "high": 1.0})) == [[1.0, 0.5]]


def test_a_call_that_goes_on_from_another_is_one_conversation_with_it() -> None:
    second = [USER, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "and?"}]
    third = [{"role": "user", "content": "summed up: q"}]
    several = [call(0, [1], [2], [USER]), call(1, [1, 2, 3], [4, 5], second), call(2, [9], [6], third)]
    found = chosen(row("a", "g", 1.0, *several), row("b", "g", 0.0))
    one = found.groups[0][0]
    assert [each.get("role") or "said" for each in one["messages_and_choices"]] == ["user", "said", "user", "said"]
    tokens = [
        [token["token"] for token in each["logprobs"]["content"]]
        for each in one["messages_and_choices"]
        if "logprobs" in each
    ]
    assert tokens == [["token_id:2"], ["token_id:4", "token_id:5"]]
    (other,) = one["additional_histories"]
    assert other["messages_and_choices"][0] == third[0]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_token_ids": [7, 2, 3]},
        {"messages": [{"role": "user", "content": "another"}, {"role": "assistant"}, USER]},
        {"messages": [USER, USER]},
        {"tools": [{"type": "function"}]},
    ],
)
def test_a_call_that_begins_otherwise_is_a_conversation_of_its_own(change: dict[str, Any]) -> None:
    second = call(1, [1, 2, 3], [4], [USER, {"role": "assistant", "content": "ok"}, USER]) | change
    found = chosen(row("a", "g", 1.0, PLAIN, second), row("b", "g", 0.0))
    assert len(found.groups[0][0]["additional_histories"]) == 1


def test_an_empty_dataset_and_a_broken_line_are_said() -> None:
    with pytest.raises(NoTrainingData, match="none of 0 rows can be compared with others: there is none"):
        chosen()
    with pytest.raises(InvalidInput, match="dataset = 'row 1'"):
        chosen(b"{}")
