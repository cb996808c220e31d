"""Reasoning in what a model says, as Qwen3 writes it: ``<think>…</think>`` at the start of the answer.

As vLLM's ``qwen3`` parser has it: an opened block that is never closed, as in an answer that was cut, is reasoning to
its end. The line breaks around the block are the template's, and it writes them again.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu.detokenize import showable

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Split:
    """``reasoning`` is None where no block was opened."""

    reasoning: str | None
    content: str


def known(template: str) -> bool:
    """Whether models of this chat template reason in a block."""
    return OPEN in template and CLOSE in template


def opened_by(prompt: str) -> bool:
    """Whether the prompt ends inside a block, so that the answer starts with reasoning."""
    return prompt.rstrip().endswith(OPEN)


def split(text: str, opened: bool = False) -> Split:
    """Reasoning and content of a whole answer; ``opened`` says that its prompt has opened the block already."""
    body = _body(text, opened)
    if body is None:
        return Split(None, text)
    reasoning, _, content = body.partition(CLOSE)
    return Split(reasoning.strip("\n"), content.lstrip("\n"))


def split_so_far(text: str, opened: bool = False) -> Split:
    """As ``split``, of an answer that goes on: only what stays as it is, whatever comes next."""
    if OPEN.startswith(text.lstrip("\n")):
        return Split(None, "")
    body = _body(text, opened)
    if body is None:
        return Split(None, text)
    if CLOSE in body:
        return split(text, opened)
    return Split(body[: showable(body, (CLOSE,))].strip("\n"), "")


def _body(text: str, opened: bool) -> str | None:
    """What follows the opening mark; None without one. A model may write it though the prompt ends with it."""
    start = text.lstrip("\n")
    if start.startswith(OPEN):
        return start[len(OPEN) :]
    return text if opened else None
