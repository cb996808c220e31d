"""Messages between the host and the launcher: a count, then each field behind its length. Nothing in them is code."""

from __future__ import annotations

import socket
from collections.abc import Sequence

COUNT, LENGTH = 4, 8
"""Bytes of the two kinds of numbers, big-endian."""


class Broken(Exception):
    """The other side is gone, or says more than it should."""


def packed(fields: Sequence[bytes]) -> bytes:
    """One message."""
    lengths = b"".join(len(field).to_bytes(LENGTH, "big") + field for field in fields)
    return len(fields).to_bytes(COUNT, "big") + lengths


def unpacked(data: bytes | bytearray) -> tuple[list[bytes], int] | None:
    """The fields of a message that ``data`` begins with, and its size; None while it is not whole."""
    if len(data) < COUNT:
        return None
    at, found = COUNT, []
    for _ in range(int.from_bytes(data[:COUNT], "big")):
        end = at + LENGTH + int.from_bytes(data[at : at + LENGTH], "big")
        if len(data) < at + LENGTH or len(data) < end:
            return None
        found.append(bytes(data[at + LENGTH : end]))
        at = end
    return found, at


def send(channel: socket.socket, message: bytes, seconds: float) -> None:
    """Say something.

    Raises:
        Broken: the other side is gone, or does not listen for ``seconds``.
    """
    channel.settimeout(seconds)
    try:
        channel.sendall(message)
    except OSError as error:
        raise Broken(str(error)) from None


def receive(channel: socket.socket, heard: bytearray, seconds: float, most: int) -> list[bytes] | None:
    """The next message; None when ``seconds`` have passed without news, so that the caller can look around.

    ``heard`` keeps what has come and is not said yet.

    Raises:
        Broken: the other side is gone, or says more than ``most`` bytes.
    """
    channel.settimeout(seconds)
    while (whole := unpacked(heard)) is None:
        try:
            chunk = channel.recv(1 << 18)
        except TimeoutError:
            return None
        except OSError as error:
            raise Broken(str(error)) from None
        heard += chunk
        if not chunk or len(heard) > most:
            raise Broken("the launcher is gone" if not chunk else f"the launcher said more than {most} bytes")
    message, size = whole
    del heard[:size]
    return message
