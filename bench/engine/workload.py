"""The starter model, and chats of ragged lengths with it, by seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.starter import build
from gpu.tokens import ChatTokens

WORDS = ("go", "turn", "left", "right", "red", "blue", "green", "key", "ball", "door", "wall", "open", "you", "see")
PROMPT_TOKENS = (16, 400)
ANSWER_TOKENS = (8, 240)
MEDIANS = (80, 60)
SPREAD = 0.8
"""Standard deviation of the logarithm of a length: the longest of 16 answers is about four times the median."""


@dataclass(frozen=True)
class Chat:
    """One request: its messages, their tokens, and how many tokens the answer has."""

    messages: list[dict[str, Any]]
    prompt: list[int]
    answer_tokens: int


def starter(folder: Path, seed: int) -> Path:
    """A starter model in ``folder``, with a tokenizer trained on sentences of ``WORDS``."""
    rng = random.Random(seed)
    return build((_sentence(rng, 30) for _ in range(200)), folder / "starter", seed)


def chats(tokens: ChatTokens, count: int, seed: int) -> list[Chat]:
    """``count`` requests; lengths are log-normal, and no two prompts share more than the template's first tokens."""
    rng = random.Random(seed)
    return [_chat(tokens, rng) for _ in range(count)]


def shapes(asked: Sequence[Chat], model: Any) -> dict[str, Any]:
    """What was measured: the model, and the least, median and greatest lengths in tokens."""
    config = model.config
    return {
        "chats": len(asked),
        "prompt_tokens": _spread([len(chat.prompt) for chat in asked]),
        "answer_tokens": _spread([chat.answer_tokens for chat in asked]),
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "vocabulary": config.vocab_size,
        "parameters": sum(one.numel() for one in model.parameters()),
    }


def _chat(tokens: ChatTokens, rng: random.Random) -> Chat:
    wanted = _length(rng, MEDIANS[0], PROMPT_TOKENS)
    text = _sentence(rng, wanted)
    while len(prompt := tokens.prompt(_asking(text))) > wanted and text:
        text = text[: len(text) * wanted // len(prompt)]
    return Chat(_asking(text), prompt, _length(rng, MEDIANS[1], ANSWER_TOKENS))


def _asking(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _length(rng: random.Random, median: int, bounds: tuple[int, int]) -> int:
    drawn = round(median * rng.lognormvariate(0, SPREAD))
    return min(max(drawn, bounds[0]), bounds[1])


def _sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def _spread(lengths: Sequence[int]) -> list[int]:
    ordered = sorted(lengths)
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]
