from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

import environments
from environments.aside import Threads
from environments.babyai.goto import BabyAIGoto

HANGS = """
import asyncio, threading
import environments
from environments.aside import Threads
from environments.babyai.goto import BabyAIGoto

async def main():
    BabyAIGoto.blocks = True
    environment = environments.load("babyai-goto")
    try:
        async with asyncio.timeout(0.1):
            await Threads().run(environment, threading.Event().wait)
    except TimeoutError:
        print("given up", flush=True)

asyncio.run(main())
"""


def test_a_step_that_hangs_does_not_keep_the_interpreter() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "given up\n"


def test_what_blocks_runs_on_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ran() -> tuple[int, int]:
        threads, environment = Threads(), environments.load("babyai-goto")
        here = await threads.run(environment, threading.get_ident)
        monkeypatch.setattr(BabyAIGoto, "blocks", True)
        return here, await threads.run(environment, threading.get_ident)

    here, there = asyncio.run(ran())
    assert here == threading.get_ident() != there


def test_what_it_raises_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BabyAIGoto, "blocks", True)
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(Threads().run(environments.load("babyai-goto"), int, "x"))


def test_the_end_of_an_iterator_is_raised_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BabyAIGoto, "blocks", True)
    environment = environments.load("babyai-goto")

    async def ran() -> None:
        async with asyncio.timeout(60):
            await Threads().run(environment, next, iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(ran())
