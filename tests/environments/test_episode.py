from __future__ import annotations

import time

import pytest

from environments.episode import MOST_CHARACTERS, action_of


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("turn left", "turn left"),
        ("Action: turn left", "turn left"),
        ("I turn.\n  action :\nturn left", "turn left"),
        ("Action: turn right\n\nACTION:\tturn left\n", "turn left"),
        ("<think>Action: stay</think>turn left", "turn left"),
        ("the action: turn left", "the action: turn left"),
    ],
)
def test_the_action_is_what_follows_the_last_line_that_says_so(reply: str, action: str) -> None:
    assert action_of(reply) == action


@pytest.mark.parametrize("filler", ["\n", " ", "\t\n", "action", "action\n", "\naction "])
def test_no_reply_takes_long_to_read(filler: str) -> None:
    reply = f"a{filler * MOST_CHARACTERS}"[: MOST_CHARACTERS - 1] + "b"
    began = time.process_time()
    action_of(reply)
    assert time.process_time() - began < 0.3
