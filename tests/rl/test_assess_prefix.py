"""Sizes and shared prefixes, counted by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rl import assess_prefix
from rl.assess_groups import key_of
from rl.assess_prefix import Sizes, common_start, prompt_parts, text_of
from rl.records import Call, Message, Trajectory

AT = datetime(2025, 1, 15, 10, 5, tzinfo=UTC)


def call(messages: list[tuple[str, str]], said: str, **fields: Any) -> Call:
    sent = [Message.model_validate({"role": role, "content": text}) for role, text in messages]
    return Call(
        call_id="c", turn=0, model="m", messages=sent, response=Message(role="assistant", content=said), **fields
    )


def sizes(*trajectories: tuple[list[Call], int]) -> Sizes:
    found = Sizes()
    for number, (calls, group) in enumerate(trajectories):
        row = Trajectory(
            trajectory_id=str(number),
            scenario_id="s",
            agent_id="a",
            started_at=AT,
            ended_at=AT,
            reward=0.0,
            calls=calls,
        )
        found.take(row, group)
    return found


def tokens(prompt: list[int], said: list[int]) -> Call:
    return call([("user", "x")], "y", prompt_token_ids=prompt, token_ids=said, logprobs=[-1.0] * len(said))


def test_characters_are_estimated_and_tokens_are_counted() -> None:
    found = sizes(([call([("system", "12345678"), ("user", "1234")], "12")], 1), ([tokens([1, 2, 3], [4])], 2))
    assert (found.read, found.spoken, found.exact) == (12 / 4 + 3, 2 / 4 + 1, 4)


def test_a_call_goes_on_from_the_one_before() -> None:
    first = call([("system", "aaaa"), ("user", "bbbb")], "cccc")
    second = call([("system", "aaaa"), ("user", "bbbb"), ("assistant", "cccc"), ("user", "dddd")], "eeee")
    found = sizes(([first, second], 1))
    assert (found.total, found.repeated) == (8 / 4 + 4 / 4 + 16 / 4 + 4 / 4, 12 / 4)


@pytest.mark.parametrize(
    ("after", "shared"),
    [
        ([("system", "aaaa"), ("user", "bbXX"), ("user", "cccc")], 6),
        ([("system", "aaaaaa"), ("user", "bbbb")], 4),
        ([("user", "aaaa")], 0),
        ([("system", "aaaa")], 4),
    ],
)
def test_what_is_alike_ends_at_the_first_difference(after: list[tuple[str, str]], shared: int) -> None:
    before = call([("system", "aaaa"), ("user", "bbbb")], "cccc")
    assert sizes(([before, call(after, "x")], 1)).repeated == shared / 4


def test_tokens_are_alike_by_their_ids() -> None:
    found = sizes(([tokens([1, 2, 3], [4, 5]), tokens([1, 2, 3, 4, 9, 5], [6])], 1))
    assert (found.total, found.repeated, found.exact) == (12, 4, 12)


def test_reasoning_that_is_left_out_of_the_next_prompt_ends_what_is_alike() -> None:
    thought = Message(role="assistant", content="cccc", reasoning_content="hmm.")
    before = call([("user", "bbbb")], "").model_copy(update={"response": thought})
    after = call([("user", "bbbb"), ("assistant", "cccc"), ("user", "d")], "x")
    assert text_of(thought) == "hmm.cccc"
    assert sizes(([before, after], 1)).repeated == 4 / 4


def test_first_prompts_of_a_group_are_shared_by_whole_messages() -> None:
    one = call([("system", "aaaaaaaa"), ("user", "bbbb")], "x")
    other = call([("system", "aaaaaaaa"), ("user", "cccc")], "x")
    assert sizes(([one], 1), ([one], 1)).starts.shared() == 12 / 4
    assert sizes(([one], 1), ([other], 1)).starts.shared() == 8 / 4
    assert sizes(([one], 1), ([other], 1), ([one], 1)).starts.shared() == 8 / 4 + 12 / 4
    assert sizes(([one], 1), ([one], 2)).starts.shared() == 0


def test_tools_and_the_system_prompt_are_shared_together() -> None:
    tools = [{"type": "function"}]
    one, other = (call([("system", "aaaa"), ("user", user)], "x", tools=tools) for user in ("b", "c"))
    assert sizes(([one], 1), ([other], 1)).starts.shared() == (len('[{"type": "function"}]') + 4) / 4


def test_first_prompts_with_tokens_are_shared_in_tokens() -> None:
    one = tokens([1, 2, 3, 4, 5], [6])
    assert sizes(([one], 1), ([one], 1)).starts.shared() == 5


def test_beyond_so_many_beginnings_a_part_of_the_groups_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assess_prefix, "PENDING", 50)
    monkeypatch.setattr(assess_prefix, "MOST_NODES", 100)
    rows = [([call([("system", "aaaa"), ("user", f"{group:04}")], "x")], key_of(str(group))) for group in range(400)]
    found = sizes(*rows, *rows)
    assert found.starts.stride > 1
    assert len(found.starts._nodes.moments().key) <= 100 + 2 * 50
    assert (found.starts.tokens, found.starts.shared()) == (800 * 2, pytest.approx(400 * 2))


def test_tools_are_read_before_the_messages() -> None:
    tools = [{"type": "function"}]
    assert prompt_parts(call([("user", "b")], "x", tools=tools)) == [("tools", '[{"type": "function"}]'), ("user", "b")]


def test_a_common_start() -> None:
    assert [common_start(*pair) for pair in (("abc", "abd"), ("", "a"), ("ab", "ab"), ("abc", "ab"))] == [2, 0, 2, 2]
