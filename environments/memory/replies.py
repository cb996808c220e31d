"""What a reply holds: code to run in ``<python>``, or the last word in ``<reply>``."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from environments.episode import spoken

TAG = re.compile(r"<(/?)(python|reply)>", re.IGNORECASE)
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)\n?```", re.DOTALL)
FORM = "Write code as <python>...</python>, or end with <reply>...</reply>."


class Block(NamedTuple):
    """One block and what is in it."""

    kind: Literal["python", "reply"]
    text: str


class Malformed(ValueError):
    """What is wrong with a reply."""


def read(reply: str) -> Block:
    """The one block of a reply that is not empty. What is outside of blocks does not count.

    Raises:
        Malformed: there is none, or more than one.
    """
    filled = [block for block in blocks(spoken(reply)) if block.text.strip()]
    if len({block.kind for block in filled}) > 1:
        raise Malformed(f"Write either <python> or <reply>, not both. {FORM}")
    if len(filled) > 1:
        raise Malformed(f"Write one block a turn. {FORM}")
    if not filled:
        raise Malformed(f"There is no <python> and no <reply> block. {FORM}")
    return filled[0]


def blocks(text: str) -> list[Block]:
    """All closed blocks in their order; tags inside of a block are part of it."""
    found: list[Block] = []
    kind, begin = "", 0
    for tag in TAG.finditer(text):
        closes, name = bool(tag[1]), tag[2].lower()
        if not kind and not closes:
            kind, begin = name, tag.end()
        elif kind == name and closes:
            inside = text[begin : tag.start()]
            found.append(Block("python", unfenced(inside)) if kind == "python" else Block("reply", inside))
            kind = ""
    return found


def unfenced(code: str) -> str:
    """Code without a Markdown fence around it."""
    fenced = FENCE.fullmatch(code.strip())
    return fenced[1] if fenced else code.strip("\n")
