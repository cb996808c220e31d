"""Chat messages to ids and back, exactly."""

from pathlib import Path

import pytest

from gpu import tokens as tokens_module
from gpu.tokens import ChatTokens, load_tokens
from rl.errors import InvalidInput
from rl.records import Call, Message

USER = {"role": "user", "content": "You see: wall 4 ahead"}


@pytest.fixture
def tokens(base: Path) -> ChatTokens:
    return load_tokens(base)


def test_a_prompt_is_the_rendered_template(tokens: ChatTokens) -> None:
    text = "<|im_start|>user\nYou see: wall 4 ahead<|im_end|>\n<|im_start|>assistant\n"
    assert tokens.render([USER]) == text
    assert tokens.prompt([USER]) == tokens.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_next_turn_keeps_sampled_tokens_that_encoding_would_cut_otherwise(tokens: ChatTokens) -> None:
    prompt_text = tokens.render([USER])
    prompt = tokens.ids(prompt_text)
    letters = [tokens.tokenizer(letter)["input_ids"][0] for letter in "turn"]
    assert tokens.tokenizer("turn", add_special_tokens=False)["input_ids"] != letters
    held = [*prompt, *letters, tokens.eos_id]
    tokens.remember(prompt_text, "turn", held)
    following = tokens.prompt([USER, {"role": "assistant", "content": "turn"}, USER])
    assert following[: len(held)] == held
    assert tokens.tokenizer.decode(following) == tokens.render([USER, {"role": "assistant", "content": "turn"}, USER])


def test_an_answer_cut_short_is_continued_too(tokens: ChatTokens) -> None:
    prompt_text = tokens.render([USER])
    held = [*tokens.ids(prompt_text), *[tokens.tokenizer(letter)["input_ids"][0] for letter in "tu"]]
    tokens.remember(prompt_text, "tu", held)
    following = tokens.prompt([USER, {"role": "assistant", "content": "tu"}, USER])
    assert following[: len(held) + 1] == [*held, tokens.eos_id]


def test_the_oldest_conversations_are_forgotten_beyond_so_many_tokens(
    tokens: ChatTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "REMEMBERED_TOKENS", 10)
    held = [90, 91, 92, 93]
    for text in ("one", "two", "two", "three"):
        tokens.remember(text, "", held)
    assert (tokens.ids("two"), tokens.ids("three")) == (held, held), "8 tokens are no more than 10"
    assert tokens.ids("one") == tokens.tokenizer("one", add_special_tokens=False)["input_ids"]


def test_the_mask_of_a_foreign_answer_is_exact(tokens: ChatTokens) -> None:
    call = Call(
        call_id="c",
        turn=0,
        model="x",
        messages=[Message(role="user", content="You see: wall 4 ahead")],
        response=Message(role="assistant", content="turn left"),
    )
    prompt, spoken = tokens.answer(call)
    assert prompt == tokens.prompt([USER])
    assert tokens.tokenizer.decode(spoken) == "turn left<|im_end|>"
    assert spoken[-1] == tokens.eos_id
    assert tokens.decode(spoken[:-1]) == "turn left"


def test_a_template_that_refuses_is_an_input_error(tokens: ChatTokens) -> None:
    tokens.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InvalidInput, match="roles must alternate"):
        tokens.render([USER])
    tokens.tokenizer.chat_template = None
    with pytest.raises(InvalidInput, match="chat template"):
        ChatTokens(tokens.tokenizer)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no tokenizer"):
        load_tokens(tmp_path)
