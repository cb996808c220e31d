"""Blocks of reasoning at the start of an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu.reasoning import Split, known, opened_by, split, split_so_far


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "content"),
    [
        ("<think>\nleft is free\n</think>\n\nturn left", False, "left is free", "turn left"),
        ("\n<think>a\n\nb</think>c", False, "a\n\nb", "c"),
        ("left is free\n</think>\n\nturn left", True, "left is free", "turn left"),
        ("<think>\nleft is free\n</think>\n\nturn left", True, "left is free", "turn left"),
        ("<think>\n\n</think>\n\nturn left", False, "", "turn left"),
        ("<think>a</think>b</think>c", False, "a", "b</think>c"),
        ("turn left", False, None, "turn left"),
        ("turn <think>a</think>", False, None, "turn <think>a</think>"),
        ("a</think>b", False, None, "a</think>b"),
        ("", False, None, ""),
    ],
)
def test_reasoning_and_content(text: str, opened: bool, reasoning: str | None, content: str) -> None:
    assert split(text, opened) == Split(reasoning, content)


@pytest.mark.parametrize(("text", "opened"), [("<think>\nleft is fr", False), ("left is fr", True)])
def test_a_block_that_is_never_closed_is_reasoning_to_its_end(text: str, opened: bool) -> None:
    assert split(text, opened) == Split("left is fr", "")


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<thi", None, ""),
        ("<that", None, "<that"),
        ("<think>\na\n", "a", ""),
        ("<think>a</thin", "a", ""),
        ("<think>a</thing", "a</thing", ""),
        ("<think>a\n</think>\n", "a", ""),
        ("<think>a\n</think>\n\nb\n", "a", "b\n"),
    ],
)
def test_what_may_yet_be_a_mark_is_held(text: str, reasoning: str | None, content: str) -> None:
    assert split_so_far(text) == Split(reasoning, content)


PIECES = st.sampled_from(["<think>", "</think>", "\n", "a", "b c", "<th", "</th", "ink>", "<"])


@given(st.lists(PIECES, max_size=12), st.booleans())
def test_what_was_shown_stays_as_it_is(pieces: list[str], opened: bool) -> None:
    text = "".join(pieces)
    reasoning, content = "", ""
    for end in range(len(text) + 1):
        so_far = split_so_far(text[:end], opened)
        assert (so_far.reasoning or "").startswith(reasoning)
        assert so_far.content.startswith(content)
        reasoning, content = so_far.reasoning or "", so_far.content
    whole = split(text, opened)
    assert (whole.reasoning or "").startswith(reasoning)
    assert whole.content.startswith(content)


def test_templates_and_prompts_say_whether_there_are_blocks() -> None:
    assert known("{% set parts = content.split('</think>') %}<think>")
    assert not known("<|im_start|>assistant\n")
    assert opened_by("<|im_start|>assistant\n<think>\n")
    assert not opened_by("<|im_start|>assistant\n<think>\n\n</think>\n\n")
