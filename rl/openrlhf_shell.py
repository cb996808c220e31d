"""Read the commands of a shell script without running any of it: words, quotes, variables and arrays.

What only a running shell knows, such as ``$(date)`` or a variable that the script does not set, stays as it is
written, and the word says what it is ``missing``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rl.errors import InvalidInput
from rl.openrlhf_sum import whole

NAME = re.compile(r"[A-Za-z_]\w*")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
BRACED = re.compile(r"([A-Za-z_]\w*)(?:\[[@*]\])?(?::?-(.*))?", re.DOTALL)
VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)|\b([A-Za-z_]\w*)")
"""In arithmetic a name stands for its value with and without a dollar."""
SPECIAL = "@*#?!$0123456789"
DECLARING = ("export", "declare", "local", "readonly", "typeset")


@dataclass(frozen=True)
class Word:
    """One word of a command; ``missing`` are the expansions in it whose value is not known, as they are written."""

    text: str
    missing: tuple[str, ...] = ()


def commands(text: str, given: Mapping[str, str] | None = None) -> list[list[Word]]:
    """The commands of a script in the order they are written, each a list of words.

    Variables have the values that the script gave them by then; those of ``given`` count over them. Branches and
    loops are read as if each line ran once, the text of a here-document as if it were commands.

    Raises:
        InvalidInput: a quote or bracket that is never closed.
    """
    return _Reader(text, {name: [Word(value)] for name, value in (given or {}).items()}).read()


class _Reader:
    """Goes through ``text`` once, character by character."""

    def __init__(self, text: str, given: dict[str, list[Word]]) -> None:
        self.text, self.at = text, 0
        self.given, self.set = given, {**given}
        self.found: list[list[Word]] = []
        self.words: list[Word] = []
        self.array: tuple[str, int] | None = None
        self.letters: list[str] | None = None
        self.missing: list[str] = []
        self.redirected = False

    def read(self) -> list[list[Word]]:
        while self.at < len(self.text):
            self._step(self.text[self.at])
        self._end_command()
        return self.found

    def _step(self, letter: str) -> None:
        match letter:
            case "\\":
                self._escape()
            case " " | "\t" | "\r":
                self.at += 1
                self._end_word()
            case "#" if self.letters is None:
                self.at = self._find("\n", "#", or_end=True)
            case "'":
                end = self._find("'", "'", self.at + 1)
                self._add(self.text[self.at + 1 : end])
                self.at = end + 1
            case '"':
                self._quoted()
            case "$" | "`":
                self._expand(splits=True)
            case "<" | ">":
                self._redirect()
            case "\n" if self.array is not None:
                self.at += 1
                self._end_word()
            case "(" | ")":
                self._bracket(letter)
            case "\n" | ";" | "|" | "&":
                self.at += 1
                if self.text[self.at - 1 : self.at + 1] != "&>":
                    self._end_command()
            case _:
                self.at += 1
                self._add(letter)

    def _escape(self) -> None:
        after = self.text[self.at + 1 : self.at + 3]
        newline = 2 if after == "\r\n" else 1 if after[:1] == "\n" else 0
        self.at += 1 + (newline or 1)
        if not newline:
            self._add(after[:1])

    def _quoted(self) -> None:
        start = self.at
        self.at += 1
        self._add("")
        while (letter := self.text[self.at : self.at + 1]) != '"':
            if not letter:
                raise _unclosed('"', self.text, start)
            if letter in "$`":
                self._expand(splits=False)
            elif letter == "\\" and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`", "\n"):
                self._add(self.text[self.at + 1].strip("\n"))
                self.at += 2
            else:
                self._add(letter)
                self.at += 1
        self.at += 1

    def _expand(self, *, splits: bool) -> None:
        """Put the value of the expansion that begins here into the word; with ``splits`` into several, at blanks."""
        start, after = self.at, self.text[self.at + 1 : self.at + 2]
        if self.text[start] == "`":
            self.at = self._find("`", "`", start + 1) + 1
        elif after in ("(", "{"):
            self.at = _closing(self.text, start + 1)
        elif name := NAME.match(self.text, start + 1):
            self.at = name.end()
        elif after and after in SPECIAL:
            self.at = start + 2
        else:
            self.at = start + 1
            self._add("$")
            return
        self._insert(self.text[start : self.at], splits=splits)

    def _insert(self, written: str, *, splits: bool) -> None:
        values = self._values(written)
        if values is None:
            self._add(written, (written,))
            return
        splits = splits and not self._assigns()
        for place, value in enumerate(values):
            if place:
                self._end_word()
            parts = value.text.split() if splits and not value.missing else [value.text]
            for number, part in enumerate(parts):
                if number:
                    self._end_word()
                self._add(part, value.missing)

    def _values(self, written: str) -> list[Word] | None:
        """What an expansion comes to: one word, or an array's; None where the script does not say."""
        if written.startswith("$((") and written.endswith("))"):
            return self._counted(written[3:-2])
        inner = BRACED.fullmatch(written[2:-1]) if written.startswith("${") else NAME.fullmatch(written[1:])
        if inner is None:
            return None
        name = inner[1] if written.startswith("${") else inner[0]
        if name in self.set:
            known = self.set[name]
            return known if written.startswith("${") and "[" in written else known[:1] or [Word("")]
        if written.startswith("${") and inner[2] is not None:
            inside = _Reader('"' + inner[2].replace('"', "") + '"', self.set)
            return inside.read()[0]
        return None

    def _counted(self, sum_: str) -> list[Word] | None:
        """The value of whole numbers and variables with ``+ - * / %`` and brackets; None for anything else."""
        known = {name: words[0].text for name, words in self.set.items() if words and not words[0].missing}
        plain = VARIABLE.sub(lambda found: known.get(found[1] or found[2] or found[3], found[0]), sum_)
        value = whole(plain)
        return None if value is None else [Word(str(value))]

    def _assigns(self) -> bool:
        """Whether the word in the making gives a variable its value: such a word is never split."""
        return bool(self.letters) and ASSIGNMENT.match("".join(self.letters or "")) is not None

    def _bracket(self, letter: str) -> None:
        begun = ASSIGNMENT.fullmatch("".join(self.letters or ""))
        self.at += 1
        if letter == "(" and begun and not begun[3]:
            self.array = (begun[1] + begun[2], len(self.words))
            self.letters, self.missing = None, []
        elif letter == ")" and self.array is not None:
            self._end_word()
            name, first = self.array
            self._store(name.rstrip("+"), self.words[first:], more=name.endswith("+"))
            self.words, self.array = self.words[:first], None
        else:
            self._end_command()

    def _redirect(self) -> None:
        if "".join(self.letters or "").isdigit():
            self.letters = None
        self._end_word()
        while self.text[self.at : self.at + 1] in ("<", ">", "&", "-"):
            self.at += 1
        self.redirected = True

    def _find(self, what: str, opened: str, start: int | None = None, *, or_end: bool = False) -> int:
        end = self.text.find(what, self.at if start is None else start)
        if end < 0 and not or_end:
            raise _unclosed(opened, self.text, self.at)
        return len(self.text) if end < 0 else end

    def _add(self, text: str, missing: tuple[str, ...] = ()) -> None:
        self.letters = self.letters or []
        self.letters.append(text)
        self.missing += missing

    def _end_word(self) -> None:
        if self.letters is not None:
            if not self.redirected:
                self.words.append(Word("".join(self.letters), tuple(self.missing)))
            self.redirected = False
        self.letters, self.missing = None, []

    def _end_command(self) -> None:
        self._end_word()
        self.redirected = False
        words = [word for place, word in enumerate(self.words) if place or word.text not in DECLARING]
        if words and all(ASSIGNMENT.fullmatch(word.text) for word in words):
            for word in words:
                name, more, value = ASSIGNMENT.fullmatch(word.text).groups()  # type: ignore[union-attr]
                self._store(name, [Word(value, word.missing)], more=bool(more))
        elif self.words:
            self.found.append(self.words)
        self.words = []

    def _store(self, name: str, words: list[Word], *, more: bool) -> None:
        if name in self.given:
            return
        before = self.set.get(name, []) if more else []
        if more and len(before) == len(words) == 1:
            words, before = [Word(before[0].text + words[0].text, before[0].missing + words[0].missing)], []
        self.set[name] = before + words


def _closing(text: str, start: int) -> int:
    """The place behind the bracket that closes the one at ``start``; brackets in quotes do not count."""
    pairs = {"(": ")", "{": "}"}
    opened, at, depth = text[start], start, 0
    while at < len(text):
        letter = text[at]
        if letter in ("'", '"') and opened == "(":
            at = _end_of_quote(text, at)
        elif letter == "\\":
            at += 1
        depth += (letter == opened) - (letter == pairs[opened])
        at += 1
        if not depth:
            return at
    raise _unclosed(opened, text, start)


def _end_of_quote(text: str, start: int) -> int:
    at = start + 1
    while at < len(text) and text[at] != text[start]:
        if text[start] == '"' and text.startswith("$(", at):
            at = _closing(text, at + 1)
            continue
        at += 2 if text[at] == "\\" and text[start] == '"' else 1
    return at


def _unclosed(opened: str, text: str, start: int) -> InvalidInput:
    return InvalidInput(f"line {text.count(chr(10), 0, start) + 1}", opened, "is never closed; close it")
