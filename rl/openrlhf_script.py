"""The training that a shell script starts: which of OpenRLHF's programs, and every flag it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rl.errors import InvalidInput
from rl.openrlhf_flags import PAIRS, PPO, SECRET, SEVERAL, SFT, SWITCHES, canonical
from rl.openrlhf_shell import Word, commands

PROGRAM = re.compile(r"(?:^|[/\s])openrlhf[./]cli[./](train_\w+?)(?:\.py)?$")
STRANDED = re.compile(r"--[A-Za-z]\w*")
PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")
KEY = re.compile(r"(^|[_.-])(key|token|tokens|secret|password)$")
HIDDEN = "<hidden>"


@dataclass(frozen=True)
class Flag:
    """One flag as the script gives it: ``name`` as it is listed, None where nobody knows it, ``written`` as it stands.

    ``missing`` are expansions in its values that only a running shell knows. ``repeated`` where an earlier one of the
    same name had other values: the last one counts.
    """

    name: str | None
    written: str
    values: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    repeated: bool = False

    @property
    def shown(self) -> str:
        """Its values for people: what may be a key or a password is hidden."""
        bare = self.written.lstrip("-")
        secret = self.name in SECRET or (self.name is None and KEY.search(bare))
        return HIDDEN if secret and self.values else PASSWORD.sub(HIDDEN + "@", " ".join(self.values))


@dataclass(frozen=True)
class Script:
    """What a script starts: ``trainer``, its ``flags``, and ``stranded`` ones that its shell never passed on."""

    trainer: str
    flags: tuple[Flag, ...]
    stranded: tuple[Flag, ...]


def read(text: str, given: Mapping[str, str] | None = None, nth: int | None = None) -> Script:
    """The training in a script or command line; with ``nth``, of several the nth, counted from 1.

    Raises:
        InvalidInput: it starts none, several while ``nth`` is None, or one that is neither ``train_ppo_ray`` nor
            ``train_sft``.
    """
    found = list(_trainings(commands(text, given), given))
    size = f"{len(text.splitlines())} lines"
    if not found:
        raise InvalidInput("script", size, f"starts no training; it must name openrlhf.cli.{PPO} or .{SFT}")
    if nth is None and len(found) > 1:
        names = ", ".join(f"{number} {trainer}" for number, (trainer, _, _) in enumerate(found, 1))
        raise InvalidInput("script", size, f"starts several trainings ({names}); choose one with --nth")
    if not 1 <= (nth or 1) <= len(found):
        raise InvalidInput("nth", nth, f"the script starts {len(found)}")
    trainer, words, stranded = found[(nth or 1) - 1]
    if trainer not in (PPO, SFT):
        raise InvalidInput("script", f"openrlhf.cli.{trainer}", f"only {PPO} and {SFT} can be imported")
    return Script(trainer, tuple(_last_ones(_flags(words))), tuple(_flags(stranded)))


def _trainings(
    found: list[list[Word]], given: Mapping[str, str] | None
) -> Iterator[tuple[str, list[Word], list[Word]]]:
    """Each training's program, its arguments, and what stands behind it as a command of its own."""
    for place, words in enumerate(found):
        for at, word in enumerate(words):
            program = PROGRAM.search(word.text)
            if program and not re.search(r"\s", word.text.strip()):
                yield program[1], words[at + 1 :], _stranded(found[place + 1 :])
                break
            if re.search(r"openrlhf[./]cli[./]train_\w+(?:\.py)?\s", word.text):
                yield from _trainings(commands(word.text, given), given)


def _stranded(after: list[list[Word]]) -> list[Word]:
    words: list[Word] = []
    for command in after:
        if not STRANDED.match(command[0].text):
            break
        words += command
    return words


def _flags(words: list[Word]) -> Iterator[Flag]:
    rest = [word for word in words if word.text.strip()]
    while rest:
        first = rest.pop(0)
        written, equals, value = first.text.partition("=")
        if not written.startswith("--"):
            yield Flag(None, first.text, (), first.missing)
            continue
        name = canonical(written[2:])
        values = [Word(value, first.missing)] if equals else []
        while len(values) < _at_most(name, len(values)) and rest and not STRANDED.match(rest[0].text):
            values.append(rest.pop(0))
        missing = tuple(one for word in values for one in word.missing)
        yield Flag(name, written, tuple(word.text for word in values), missing)


def _at_most(name: str | None, have: int) -> int:
    """How many values a flag may take; one that nobody knows takes all up to the next flag."""
    if name in SWITCHES:
        return have
    return 2 if name in PAIRS else 99 if name is None or name in SEVERAL else 1


def _last_ones(flags: Iterator[Flag]) -> list[Flag]:
    """As argparse reads them: of a flag that is given again, the last one."""
    last: dict[str, Flag] = {}
    for flag in flags:
        key = flag.name or flag.written
        before = last.pop(key, None)
        again = before is not None and (before.repeated or before.values != flag.values)
        last[key] = Flag(flag.name, flag.written, flag.values, flag.missing, repeated=again)
    return list(last.values())
