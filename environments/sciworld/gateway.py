"""Calls into a Java process that runs Py4J's gateway server, in its text protocol and over one connection.

Py4J's own client resends calls, sends others when Python collects garbage, and configures the root logger when a call
fails. Here a call is one line out and one line back, or an error.
"""

from __future__ import annotations

import socket
from typing import NamedTuple, TypeAlias

ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"))


class Reference(NamedTuple):
    """An object that stays on the Java side, or with the prefix ``z:`` a class."""

    id: str


Value: TypeAlias = str | int | float | bool | Reference | None


class GatewayError(Exception):
    """The Java side raised an exception, or sent what is no answer."""


class Gateway:
    """One connection. What goes wrong on the way is an ``OSError``; ``TimeoutError`` is one."""

    def __init__(self, port: int, token: str, patience_seconds: float) -> None:
        """Connect to this machine's ``port``. ``patience_seconds`` are for each answer.

        Raises:
            GatewayError: the token is not the server's.
            OSError: no answer.
        """
        self._socket = socket.create_connection(("127.0.0.1", port), patience_seconds)
        self._answers = self._socket.makefile("r", encoding="utf-8", newline="\n")
        try:
            self._ask(f"A\n{token}\n")
        except (OSError, GatewayError):
            self.close()
            raise

    def call(self, target: Reference, method: str, *arguments: Value) -> Value:
        """Call a method.

        Raises:
            GatewayError: the method raised an exception.
            OSError: no answer.
        """
        return self._ask(f"c\n{target.id}\n{method}\n{''.join(map(_said, arguments))}e\n")

    def make(self, name: str, *arguments: Value) -> Reference:
        """A new object of a class. Raises as ``call``."""
        made = self._ask(f"i\n{name}\n{''.join(map(_said, arguments))}e\n")
        if not isinstance(made, Reference):
            raise GatewayError(f"{name} is no class")
        return made

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def _ask(self, command: str) -> Value:
        self._socket.sendall(command.encode(errors="replace"))
        line = self._answers.readline()
        if not line.endswith("\n"):
            raise ConnectionResetError("the Java process closed the connection")
        if not line.startswith("!y"):
            raise GatewayError(line.strip()[:500])
        return _heard(line[2:-1])


def _said(value: Value) -> str:
    """One argument of a command."""
    if isinstance(value, Reference):
        return f"r{value.id}\n"
    if isinstance(value, bool):
        return f"b{value}\n"
    if isinstance(value, int):
        return f"i{value}\n"
    text = str(value)
    for plain, escaped in ESCAPES:
        text = text.replace(plain, escaped)
    return f"s{text}\n"


def _heard(text: str) -> Value:
    """The value of an answer: a letter for its type, and its text."""
    kind, rest = text[:1], text[1:]
    if kind == "s":
        return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in rest.split("\\\\"))
    if kind in "dD":
        return float(rest)
    if kind in "iL":
        return int(rest)
    if kind == "b":
        return rest == "true"
    return None if kind in "vn" else Reference(rest)
