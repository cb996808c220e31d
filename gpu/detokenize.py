"""Text while it is being spoken: token by token, up to a stop sequence, and as far as it can be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """The text of tokens as they come. Without it a character of several tokens would be shown in broken halves.

    Each push decodes only the tokens since the last whole character but one: a tokenizer may put a space before a
    word by what stands in front of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self.text = ""
        self._decode = decode
        self._ids: list[int] = []
        self._context = self._read = 0

    def push(self, ids: Iterable[int]) -> None:
        """Add tokens; ``text`` grows by the characters that are complete."""
        self._ids += ids
        before = self._decode(self._ids[self._context : self._read])
        now = self._decode(self._ids[self._context :])
        if len(now) > len(before) and not now.endswith(REPLACEMENT):
            self.text += now[len(before) :]
            self._context, self._read = self._read, len(self._ids)


class StopText:
    """Says, token by token, whether the text holds one of ``stops`` by now."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self._spoken = Detokenizer(decode)
        self._stops = stops
        self._overlap = max(map(len, stops)) - 1

    def __call__(self, token: int, logprob: float) -> bool:
        start = max(0, len(self._spoken.text) - self._overlap)
        self._spoken.push([token])
        return first(self._spoken.text[start:], self._stops) is not None


def first(text: str, marks: Sequence[str]) -> tuple[int, str] | None:
    """Where the first of ``marks`` begins in ``text``, and which one it is; None where there is none."""
    found = [(at, mark) for mark in marks if (at := text.find(mark)) >= 0]
    return min(found, default=None)


def showable(text: str, marks: Sequence[str]) -> int:
    """How many characters of ``text`` come before any mark, and before an end that may become one."""
    found = first(text, marks)
    if found is not None:
        return found[0]
    longest = max(map(len, marks), default=0)
    for start in range(max(0, len(text) - longest + 1), len(text)):
        if any(mark.startswith(text[start:]) for mark in marks):
            return start
    return len(text)
