"""A request about a memory, and what fulfils it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from environments.memory.phrases import Terms, normal
from environments.memory.tables import ATTRIBUTES, BY_KEY, words
from environments.memory.vault import Route, Tree, Vault


class Task(NamedTuple):
    """``expected`` is what the memory has to be at the end; ``plan`` are an expert's replies."""

    kind: str
    before: Tree
    request: str
    expected: Tree
    terms: Terms
    plan: tuple[str, ...]

    def key(self) -> list[Any]:
        """What makes it the task that it is."""
        return [self.before, self.request]

    def fulfilled(self, reply: str, files: Mapping[bytes, bytes]) -> bool:
        """Whether the reply says what it should, and the memory is what it should be."""
        return same(files, self.expected) and self.terms.hold(reply)


def encoded(tree: Tree) -> dict[bytes, bytes]:
    """A tree as files, with its folder."""
    return {b"entities/": b"", **{path.encode(): text.encode() for path, text in tree.items()}}


def same(files: Mapping[bytes, bytes], expected: Tree) -> bool:
    """Whether the files are those of the tree: neither the order of a section's lines nor of sections counts."""
    wanted = encoded(expected)
    return files.keys() == wanted.keys() and all(
        files[path] == text or sections(files[path]) == sections(text) for path, text in wanted.items()
    )


def sections(content: bytes) -> Counter[tuple[str, str]]:
    """How often each line is under each heading; empty lines, empty sections and space at a line's end are nothing."""
    heading, found = "", Counter[tuple[str, str]]()
    for line in content.decode("utf-8", "replace").split("\n"):
        if line.startswith("## "):
            heading = line.rstrip()
        elif line.strip():
            found[heading, line.rstrip()] += 1
    return found


def whose(relations: Sequence[str], whom: str = "my") -> str:
    """Such as ``my sister's employer's``."""
    return " ".join([whom, *(f"{words(relation)}'s" for relation in relations)])


def terms(
    vault: Vault,
    route: Route,
    needed: Sequence[str],
    keys: Sequence[str] = (),
    *,
    refuses: bool = False,
    asks: bool = False,
) -> Terms:
    """The reply has ``needed``, names at most whom the route meets, and no value of the attributes ``keys`` besides."""
    have, may = frozenset(map(normal, needed)), frozenset(map(normal, route.names))
    values: tuple[re.Pattern[str], ...] = tuple(BY_KEY[key].pattern for key in keys)
    return Terms(have, may - have, vault.phrases() - have - may, values, refuses, asks)


def thought(text: str) -> str:
    """What is thought before the block."""
    return f"<think>{text}</think>\n"


def code(*lines: str) -> str:
    """A block of code."""
    return "<python>\n{}\n</python>".format("\n".join(lines))


def said(text: str) -> str:
    """The last word."""
    return f"<reply>{text}</reply>"


def reads(vault: Vault, route: Route) -> list[str]:
    """An expert's turns that read every file of a route."""
    turns = [thought("I look at what is known of the user.") + code('user = read_file("user.md")')]
    for relation, name in zip(route.relations, route.names[1:], strict=True):
        link = f"[[{vault.of(name).path}]]"
        turns.append(thought(f"The {words(relation)} is {link}.") + code(f'{relation} = go_to_link("{link}")'))
    return turns


def attributes(vault: Vault, name: str) -> list[str]:
    """Keys of the facts that an entity of this kind may have."""
    return [attribute.key for attribute in ATTRIBUTES[vault.of(name).kind]]
