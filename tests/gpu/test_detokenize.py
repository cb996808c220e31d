"""Text token by token, with tokens of single bytes."""

from collections.abc import Sequence

import pytest

from gpu.detokenize import Detokenizer, StopText, first, showable


def decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


def test_a_character_of_several_tokens_appears_whole() -> None:
    spoken, seen = Detokenizer(decode), []
    for byte in "aé€b".encode():
        spoken.push([byte])
        seen.append(spoken.text)
    assert seen == ["a", "a", "aé", "aé", "aé", "aé€", "aé€b"]


def test_bytes_that_are_no_character_wait_for_the_next() -> None:
    spoken = Detokenizer(decode)
    spoken.push([0xC3])
    assert spoken.text == ""
    spoken.push(b"ab")
    assert spoken.text == "\ufffdab"


def test_a_stop_is_found_where_its_last_token_is() -> None:
    stop = StopText(decode, ["END", "."])
    assert [stop(byte, 0.0) for byte in b"aEN ENDb."] == [False] * 6 + [True, False, True]


def test_the_earliest_mark_is_found() -> None:
    assert first("one two", ["two", "one", "x"]) == (0, "one")
    assert first("one", ["two"]) is None
    assert first("one", []) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [("ab", 2), ("abS", 2), ("abST", 2), ("abSx", 4), ("abSTOPc", 2), ("", 0), ("SSTO", 1)],
)
def test_what_may_become_a_mark_is_held(text: str, shown: int) -> None:
    assert showable(text, ["STOP"]) == shown
    assert showable(text, []) == len(text)
