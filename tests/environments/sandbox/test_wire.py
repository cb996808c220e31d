from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.sandbox import wire

ROOT = Path(__file__).parents[3]
MESSAGES = st.lists(st.binary(max_size=40), max_size=6)


@given(messages=st.lists(MESSAGES, min_size=1, max_size=3), cut=st.integers(0, 400))
def test_messages_come_out_as_they_went_in(messages: list[list[bytes]], cut: int) -> None:
    said, heard = b"".join(map(wire.packed, messages)), bytearray()
    here, there = socket.socketpair()
    with here, there:
        there.sendall(said[:cut])
        found: list[list[bytes]] = []
        while len(found) < len(messages):
            if (message := wire.receive(here, heard, 0.0001, 10_000)) is not None:
                found.append(message)
            else:
                there.sendall(said[cut:])
    assert (found, bytes(heard)) == (messages, b"")


@given(message=MESSAGES, less=st.integers(1, 300))
def test_a_part_of_a_message_is_none(message: list[bytes], less: int) -> None:
    whole = wire.packed(message)
    assert wire.unpacked(whole) == (message, len(whole))
    assert wire.unpacked(whole[: max(0, len(whole) - less)]) is None


def test_who_hangs_up_or_says_too_much_is_not_listened_to() -> None:
    here, there = socket.socketpair()
    with here:
        with there:
            there.sendall(wire.packed([b"x" * 100]))
            with pytest.raises(wire.Broken, match="said more than 50 bytes"):
                wire.receive(here, bytearray(), 1, 50)
        with pytest.raises(wire.Broken):
            wire.receive(here, bytearray(), 1, 50)
        with pytest.raises(wire.Broken):
            wire.send(here, b"x" * 10_000_000, 1)


HOLDS = """
import os
from environments.sandbox.memory import tree_bytes
before = tree_bytes(os.getpid())
held = b"x" * (64 * 1024**2)
print((tree_bytes(os.getpid()) - before) // 1024**2, len(held) // 1024**2, tree_bytes(2**22 + 1))
"""


def test_the_memory_of_a_process_counts_what_it_holds() -> None:
    """Of one without children: what tests of this process have started comes and goes."""
    ran = subprocess.run([sys.executable, "-c", HOLDS], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    counted, held, nobodys = map(int, ran.stdout.split())
    assert (60 < counted < 80, held, nobodys) == (True, 64, 0)
