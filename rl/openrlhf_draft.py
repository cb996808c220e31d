"""A config in the making: which flag each value came from, what became of each flag, and the TOML of it all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rl.errors import InvalidInput
from rl.openrlhf_flags import REASONS, nearest
from rl.openrlhf_script import Flag, Script

Fate = Literal["mapped", "no counterpart", "dead", "unknown", "unresolved"]
Value = bool | int | float | str | list[float]
DEFAULT = "the default there"


@dataclass(frozen=True)
class Row:
    """What became of one flag: ``keys`` it was mapped to, as ``key = value``, and ``why`` in words."""

    flag: str
    value: str
    fate: Fate
    keys: tuple[str, ...] = ()
    why: str = ""


class Draft:
    """Reads a script's flags with the framework's defaults, and keeps where each value of the config came from."""

    def __init__(self, script: Script) -> None:
        self.flags = {flag.name: flag for flag in script.flags if flag.name}
        self.script = script
        self.values: dict[str, Value] = {}
        self.comments: dict[str, str] = {}
        self.keys: dict[str, list[str]] = {}
        self.dead: dict[str, str] = {}
        self.absent: dict[str, str] = {}
        self.remarks: dict[str, list[str]] = {}

    def has(self, name: str) -> bool:
        """Whether the script gives the flag, with a value that is known."""
        return name in self.flags and not self.flags[name].missing

    def text(self, name: str, default: str = "") -> str:
        """The flag's one value.

        Raises:
            InvalidInput: it has none.
        """
        if not self.has(name):
            return default
        flag = self.flags[name]
        if not flag.values:
            raise InvalidInput(flag.written, None, "it has no value; the framework would not have started")
        return flag.values[0]

    def choice(self, name: str, default: str, allowed: Iterable[str]) -> str:
        """The flag's value, one of those ``allowed``.

        Raises:
            InvalidInput: it is another.
        """
        value = self.text(name, default)
        if value not in set(allowed):
            remedy = f"the framework takes {', '.join(allowed)}"
            raise InvalidInput(self.flags[name].written, value, remedy)
        return value

    def number(self, name: str, default: float) -> float:
        """The flag's value as a number.

        Raises:
            InvalidInput: it is none.
        """
        return self._number(name, self.text(name)) if self.has(name) else default

    def whole(self, name: str, default: int, least: int | None = 1) -> int:
        """The flag's value as a whole number, ``least`` or more.

        Raises:
            InvalidInput: it is none, or less.
        """
        value = self.number(name, default)
        if value != int(value) or (least is not None and value < least):
            remedy = "give a whole number" if least is None else f"give a whole number of {least} or more"
            raise InvalidInput(self.flags[name].written, self.text(name), remedy)
        return int(value)

    def pair(self, name: str, default: tuple[float, float]) -> tuple[float, float]:
        """The flag's two values as numbers; of one that has a single value, with the default's first before it.

        Raises:
            InvalidInput: it has none or more, or they are no numbers.
        """
        if not self.has(name):
            return default
        found = [self._number(name, value) for value in self.flags[name].values]
        if len(found) not in (1, 2):
            raise InvalidInput(self.flags[name].written, " ".join(self.flags[name].values), "give two numbers")
        return (found[0], found[1]) if len(found) == 2 else (default[0], found[0])

    def _number(self, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidInput(self.flags[name].written, text, "give a finite number")
        return value

    def put(self, key: str, value: Value, *names: str, remark: str = "") -> None:
        """Set ``key``; it follows from the flags ``names``, or from their defaults where the script gives none."""
        self.values[key] = value
        given = [name for name in names if self.has(name)]
        words = [f"{self.flags[name].written} {self.flags[name].shown}".strip() for name in given]
        asked = f"from {', '.join(words)}" if words else f"--{names[0]}: {DEFAULT}" if names else ""
        self.comments[key] = "; ".join(part for part in (asked, remark) if part)
        for name in given:
            self.keys.setdefault(name, []).append(key)
            if remark and remark not in self.remarks.setdefault(name, []):
                self.remarks[name].append(remark)

    def kill(self, why: str, *names: str) -> None:
        """Say of those flags that are given that they had no effect there."""
        self.dead |= {name: why for name in names if name in self.flags}

    def drop(self, why: str, *names: str) -> None:
        """Say of those flags that are given that they have no counterpart here."""
        self.absent |= {name: why for name in names if name in self.flags}

    def rows(self) -> list[Row]:
        """What became of each flag, in the order of the script."""
        stray = "the line before it ends without a backslash: its shell never passed it on"
        rows = [self._row(flag) for flag in self.script.flags]
        return rows + [Row(flag.written, flag.shown, "dead", why=stray) for flag in self.script.stranded]

    def _row(self, flag: Flag) -> Row:
        if flag.name is None:
            if flag.missing and not flag.written.startswith("--"):
                return Row(flag.written, "", "unresolved", why="what it stands for is not in the script")
            near = nearest(flag.written.lstrip("-"))
            return Row(flag.written, flag.shown, "unknown", why=f"did you mean --{near}?" if near else "")
        again = "it is given several times, and the last one counts" if flag.repeated else ""
        if flag.name in self.dead:
            return Row(flag.written, flag.shown, "dead", why=_words(self.dead[flag.name], again))
        if flag.name not in REASONS and flag.missing:
            names = " ".join(sorted({one.strip("${}") for one in flag.missing}))
            why = f"{names} has no value in the script; give it with --set NAME=VALUE"
            return Row(flag.written, flag.shown, "unresolved", why=_words(why, again))
        if flag.name in self.keys:
            keys = tuple(f"{key} = {toml_value(self.values[key])}" for key in self.keys[flag.name])
            return Row(flag.written, flag.shown, "mapped", keys, _words(*self.remarks.get(flag.name, ()), again))
        why = self.absent.get(flag.name) or REASONS.get(flag.name, f"{self.script.trainer} does not read it")
        return Row(flag.written, flag.shown, "no counterpart", why=_words(why, again))

    def config(self) -> dict[str, object]:
        """The values as nested tables."""
        root: dict[str, object] = {}
        for key, value in self.values.items():
            *tables, last = key.split(".")
            here = root
            for table in tables:
                here = here.setdefault(table, {})  # type: ignore[assignment]
            here[last] = value
        return root

    def toml(self) -> str:
        """The config as a file, one value a line, with where it came from behind it."""
        lines: list[str] = []
        tables = dict.fromkeys(key.rpartition(".")[0] for key in self.values)
        for table in sorted(tables, key=lambda name: name != ""):
            lines += ["", f"[{table}]"] if table else []
            for key in (key for key in self.values if key.rpartition(".")[0] == table):
                pair = f"{key.rpartition('.')[2]} = {toml_value(self.values[key])}"
                note = "".join(one for one in " ".join(self.comments[key].split()) if one.isprintable())
                lines.append(f"{pair:<40}  # {note}" if note else pair)
        return "\n".join(lines) + "\n"


def toml_value(value: Value) -> str:
    """A value as TOML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _words(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
