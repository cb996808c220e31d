"""Calls become as few sequences as possible, with the tokens they were held in."""

import pytest

from rl.errors import InvalidInput
from rl.records import Call, Message
from rl.sequences import merge


def call(turn: int, prompt: list[int], spoken: list[int], logprobs: list[float] | None = None) -> Call:
    return Call(
        call_id=f"c{turn}",
        turn=turn,
        model="m",
        messages=[Message(role="user", content="x")],
        response=Message(role="assistant", content="y"),
        prompt_token_ids=prompt,
        token_ids=spoken,
        logprobs=logprobs if logprobs is not None else [-0.5] * len(spoken),
    )


def test_a_call_that_continues_extends_the_sequence() -> None:
    one = merge([call(0, [1, 2], [3, 9], [-0.1, -0.2]), call(1, [1, 2, 3, 9, 4, 5], [6], [-0.3])], episode=7)
    assert len(one) == 1
    assert one[0].episode == 7
    assert one[0].ids == [1, 2, 3, 9, 4, 5, 6]
    assert one[0].mask == [0, 0, 1, 1, 0, 0, 1]
    assert one[0].logprobs == [0.0, 0.0, -0.1, -0.2, 0.0, 0.0, -0.3]


def test_another_tokenisation_of_the_past_starts_a_new_sequence() -> None:
    two = merge([call(0, [1, 2], [3, 4]), call(1, [1, 2, 34, 5], [6])], episode=0)
    assert [s.ids for s in two] == [[1, 2, 3, 4], [1, 2, 34, 5, 6]]
    assert [s.mask for s in two] == [[0, 0, 1, 1], [0, 0, 0, 0, 1]]


def test_interleaved_conversations_keep_their_own_sequences() -> None:
    merged = merge([call(0, [1], [2]), call(1, [8], [9]), call(2, [1, 2, 3], [4]), call(3, [8, 9, 5], [6])], episode=0)
    assert [s.ids for s in merged] == [[1, 2, 3, 4], [8, 9, 5, 6]]


def test_the_same_prompt_again_is_another_sequence() -> None:
    assert [s.ids for s in merge([call(0, [1, 2], [3]), call(1, [1, 2], [3])], episode=0)] == [[1, 2, 3], [1, 2, 3]]


def test_calls_without_tokens_or_with_too_few_logprobs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="carries no tokens"):
        merge([call(0, [], [3])], episode=0)
    with pytest.raises(InvalidInput, match="1 for 2 tokens of c0"):
        merge([call(0, [1], [3, 4], [-1.0])], episode=0)
