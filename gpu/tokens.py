"""From chat messages to token ids and back, through the tokenizer's own chat template.

A conversation keeps the ids it was really held in: a turn is appended to what was prompted and sampled
before, as long as the template renders the earlier part to the same text. Encoding the whole text again
could cut a sampled answer into other tokens, and then neither the trained sequence nor the cached keys and
values would be those of the rollout.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from gpu import tool_calls
from rl.errors import InvalidInput
from rl.records import Call, Message

REMEMBERED = 8192
"""Conversations, at most."""

REMEMBERED_TOKENS = 4_000_000
"""Tokens of all of them together, at most: up to 0.2 GB. The oldest go first."""


class ChatTokens:
    """One tokenizer with its chat template, and the conversations it has seen lately. Safe across threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template or tokenizer.eos_token is None:
            raise InvalidInput("tokenizer", tokenizer.name_or_path, "it needs a chat template and an end-of-turn token")
        self.tokenizer = tokenizer
        self._template: Callable[..., Any] = tokenizer.apply_chat_template
        self.eos_text = str(tokenizer.eos_token)
        self.eos_id: int = tokenizer.eos_token_id
        self._ids_of_text: OrderedDict[str, list[int]] = OrderedDict()
        self._tokens_held = 0
        self._words: dict[int, str] = {}
        self._lock = threading.Lock()

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> list[int]:
        """The ids a model is given before it answers.

        Raises:
            InvalidInput: the chat template refuses the messages.
        """
        return self.ids(self.render(messages, tools))

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> str:
        """The text of the conversation, up to where the assistant speaks."""
        given = list(tools) if tools else None
        return self._rendered(list(messages), tools=given, tokenize=False, add_generation_prompt=True)

    def _rendered(self, messages: list[Any], **settings: Any) -> str:
        try:
            return str(self._template(self._told(messages), **settings))
        except Exception as error:
            # Templates raise whatever Jinja raises, and their own refusals are arbitrary exceptions too.
            raise InvalidInput(
                "messages", str(error), "send messages that the model's chat template accepts"
            ) from error

    def _told(self, messages: list[Any]) -> list[Any]:
        """The messages as the template wants them: Qwen3's takes the text of arguments too, Qwen2.5's only objects."""
        template = str(self.tokenizer.chat_template)
        if not tool_calls.WRITES_JSON.search(template) or "arguments is string" in template:
            return messages
        return [tool_calls.as_objects(message) for message in messages]

    def remember(self, prompt_text: str, content: str, ids: list[int]) -> None:
        """Keep that ``prompt_text`` followed by ``content`` is ``ids``, the end-of-turn token included if spoken."""
        spoken = self.eos_text if ids and ids[-1] == self.eos_id else ""
        self._store(prompt_text + content + spoken, ids)

    def answer(self, call: Call) -> tuple[list[int], list[int]]:
        """Prompt ids and spoken ids of a call that came without tokens; the answer ends with the end of turn.

        The answer is tokenised apart from its prompt, as an engine's would be, so the mask is exact.

        Raises:
            InvalidInput: the template does not put the answer's content right after the prompt.
        """
        messages = [_plain(message) for message in call.messages]
        prompt_text = self.render(messages, call.tools)
        whole = self._rendered([*messages, _plain(call.response)], tools=call.tools or None, tokenize=False)
        end = whole.find(self.eos_text, len(prompt_text))
        if not whole.startswith(prompt_text) or end < 0:
            remedy = "the chat template must end the assistant's turn with the end-of-turn token"
            raise InvalidInput("chat_template", call.call_id, remedy)
        prompt = self.ids(prompt_text)
        content = whole[len(prompt_text) : end]
        spoken = [*self.ids(content), self.eos_id]
        self.remember(prompt_text, content, prompt + spoken)
        return prompt, spoken

    def decode(self, ids: Sequence[int]) -> str:
        """The text of spoken ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def word(self, token_id: int) -> str:
        """One token as text, special tokens too."""
        found = self._words.get(token_id)
        if found is None:
            found = self._words[token_id] = str(self.tokenizer.decode([token_id]))
        return found

    def ids(self, text: str) -> list[int]:
        """The ids of ``text``, going on from the longest remembered conversation that it starts with."""
        known = self._look_up(text)
        if known is not None:
            return list(known)
        start, ids = self._longest_known(text)
        ids = ids + self._encode(text[start:])
        self._store(text, ids)
        return list(ids)

    def _encode(self, text: str) -> list[int]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        # The wrapper around the backend costs ten times the encoding of a short turn.
        return list(backend.encode(text, add_special_tokens=False).ids)

    def _longest_known(self, text: str) -> tuple[int, list[int]]:
        """How many characters are remembered, ending right before or right after an end of turn, and their ids."""
        at = text.rfind(self.eos_text)
        while at > 0:
            for end in (at + len(self.eos_text), at):
                known = self._look_up(text[:end])
                if known is not None:
                    return end, known
            at = text.rfind(self.eos_text, 0, at)
        return 0, []

    def _look_up(self, text: str) -> list[int] | None:
        with self._lock:
            known = self._ids_of_text.get(text)
            if known is not None:
                self._ids_of_text.move_to_end(text)
            return known

    def _store(self, text: str, ids: list[int]) -> None:
        with self._lock:
            self._tokens_held += len(ids) - len(self._ids_of_text.pop(text, ()))
            self._ids_of_text[text] = ids
            while len(self._ids_of_text) > REMEMBERED or self._tokens_held > REMEMBERED_TOKENS:
                _, forgotten = self._ids_of_text.popitem(last=False)
                self._tokens_held -= len(forgotten)


def load_tokens(folder: Path) -> ChatTokens:
    """The tokenizer saved in ``folder``.

    Raises:
        InvalidInput: there is none, or it cannot chat.
    """
    if not (folder / "tokenizer_config.json").is_file():
        raise InvalidInput("base", str(folder), "the folder holds no tokenizer; save one next to the weights")
    return ChatTokens(AutoTokenizer.from_pretrained(folder, local_files_only=True))


def _plain(message: Message) -> dict[str, Any]:
    return message.model_dump(exclude_none=True)
