"""How much text a trajectory has, and how much of it stands there more than once.

Sizes are in tokens: exact where a call carries token ids, and otherwise its characters over ``CHARACTERS_A_TOKEN``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from rl.assess_groups import PENDING, Groups, key_of
from rl.records import Call, Message, Trajectory

CHARACTERS_A_TOKEN = 4.0
"""A rule of thumb for English under byte-pair encodings; other languages, code and numbers take fewer."""

Part = tuple[str, str]
"""Who speaks, and the text."""


MOST_NODES = 1 << 20
"""Beginnings of prompts that are told apart exactly; 32 bytes each."""
LOW_BITS = 16


@dataclass
class Starts:
    """What first prompts of a group have in common, by whole messages, in tokens.

    A prompt is two nodes of its group's trie: the tools with the first message, and all that follows. Beyond
    ``MOST_NODES`` nodes only each second group is kept, then each fourth: shares become estimates, sums stay exact.
    """

    tokens: float = 0.0
    stride: int = 1
    _nodes: Groups = field(default_factory=Groups)
    _taken: int = 0

    def take(self, call: Call, prompt: list[Part], group: int) -> None:
        """Add the first prompt of a trajectory of ``group``."""
        read, characters = _size(call, prompt)[0], _length(prompt)
        self.tokens += read
        if group % self.stride or not characters:
            return
        low, known, head = group % (1 << LOW_BITS), f"{group:x}", 2 if call.tools else 1
        for piece in filter(None, (prompt[:head], prompt[head:])):
            node = key_of(known, *(word for part in piece for word in part)) >> LOW_BITS << LOW_BITS | low
            self._nodes.add(node, read * _length(piece) / characters)
            known = f"{node:x}"
        self._taken += 1
        if self._taken % PENDING == 0:
            self._thin()

    def shared(self) -> float:
        """Tokens that another trajectory of the group begins with too."""
        nodes = self._nodes.moments()
        total = float((nodes.count * nodes.mean).sum())
        return self.tokens * float(((nodes.count - 1) * nodes.mean).sum()) / total if total else 0.0

    def _thin(self) -> None:
        while len(self._nodes.moments().key) > MOST_NODES and self.stride < 1 << LOW_BITS:
            self.stride *= 2
            self._nodes.keep(self.stride)


@dataclass
class Sizes:
    """Tokens of calls, added up. What was read is in ``read``, what was said in ``spoken``.

    ``repeated`` are those of ``read`` with which the call before begins too. ``exact`` are those of both that were
    counted by ids.
    """

    read: float = 0.0
    spoken: float = 0.0
    repeated: float = 0.0
    exact: int = 0
    starts: Starts = field(default_factory=Starts)

    @property
    def total(self) -> float:
        return self.read + self.spoken

    def take(self, trajectory: Trajectory, group: int) -> None:
        """Add a trajectory of the group ``group``."""
        prompts = [prompt_parts(call) for call in trajectory.calls]
        for call, prompt in zip(trajectory.calls, prompts, strict=True):
            read, spoken = _size(call, prompt)
            self.read += read
            self.spoken += spoken
            self.exact += int(read + spoken) if _counted(call) else 0
        for (call, prompt), (after, longer) in pairwise(zip(trajectory.calls, prompts, strict=True)):
            self.repeated += _shared(call, prompt, after, longer)
        if prompts:
            self.starts.take(trajectory.calls[0], prompts[0], group)


def prompt_parts(call: Call) -> list[Part]:
    """What a call was sent, in order: the tools it was offered, then each message."""
    tools = [("tools", json.dumps(call.tools))] if call.tools else []
    return tools + [(message.role, text_of(message)) for message in call.messages]


def text_of(message: Message) -> str:
    """All that a message says: reasoning, content, tool calls."""
    calls = json.dumps(message.tool_calls) if message.tool_calls else ""
    return (message.reasoning_content or "") + (message.content or "") + calls


def common_start(one: Iterable[object], other: Iterable[object]) -> int:
    """How many elements two sequences have in common before they first differ."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _counted(call: Call) -> bool:
    return bool(call.prompt_token_ids) and call.token_ids is not None


def _size(call: Call, prompt: list[Part]) -> tuple[float, float]:
    """Tokens read and tokens spoken."""
    if call.prompt_token_ids and call.token_ids is not None:
        return len(call.prompt_token_ids), len(call.token_ids)
    return _length(prompt) / CHARACTERS_A_TOKEN, len(text_of(call.response)) / CHARACTERS_A_TOKEN


def _length(parts: Iterable[Part]) -> int:
    return sum(len(text) for _, text in parts)


def _shared(call: Call, prompt: list[Part], after: Call, longer: list[Part]) -> float:
    """Tokens that ``after`` is sent and that ``call`` was sent or said at the same place."""
    if call.prompt_token_ids and after.prompt_token_ids:
        return common_start([*call.prompt_token_ids, *(call.token_ids or [])], after.prompt_token_ids)
    if _counted(after):
        return 0.0
    said = [*prompt, (call.response.role, text_of(call.response))]
    return sum(_alike(said, longer)) / CHARACTERS_A_TOKEN


def _alike(said: list[Part], longer: list[Part]) -> Iterator[int]:
    """Characters of each message alike; the first that differs is the last that counts."""
    for (role, text), (other_role, other) in zip(said, longer, strict=False):
        if role != other_role:
            return
        if text == other:
            yield len(text)
            continue
        yield common_start(text, other)
        return
