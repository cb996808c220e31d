"""The same chats over HTTP, to ``python -m gpu.engine`` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.engine.workload import Chat
from rl.errors import StartError

ROOT = Path(__file__).parents[2]
KEY = "bench"
NAME = "starter"
SECONDS = 600.0


def measure(
    folder: Path, passes: Sequence[Sequence[Chat]], at_once: int, beside: Callable[[Sequence[Chat]], float]
) -> dict[str, Any]:
    """Tokens per CPU second of the engine's process and per second of the clock; medians over the passes but the first.

    ``beside`` answers the same chats without HTTP, right before each pass, and says how many CPU seconds that took;
    the overhead is the share by which HTTP takes more. Each pass has chats of its own, because the engine remembers
    prompts.
    """
    found = []
    with serving(folder) as (url, process), _client(url) as client, ThreadPoolExecutor(at_once) as callers:
        for chats in passes:
            plain = beside(chats)
            found.append((*_pass(client, process, callers, chats), plain))
    counts = [sum(chat.answer_tokens for chat in chats) for chats in passes]
    timed = list(zip(counts, found, strict=True))[1:]
    return {
        "http_tokens_per_second": round(statistics.median(tokens / cpu for tokens, (cpu, _, _) in timed)),
        "http_tokens_per_wall_second": round(statistics.median(tokens / clock for tokens, (_, clock, _) in timed)),
        "http_overhead": round(statistics.median(cpu / plain for _, (cpu, _, plain) in timed) - 1, 3),
    }


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=SECONDS)


def _pass(
    client: httpx.Client, process: psutil.Process, callers: ThreadPoolExecutor, chats: Sequence[Chat]
) -> tuple[float, float]:
    """CPU seconds of the engine's process, and seconds, that one pass takes."""
    cpu, began = _cpu_seconds(process), time.monotonic()
    for _ in callers.map(lambda chat: _ask(client, chat), chats):
        pass
    return _cpu_seconds(process) - cpu, time.monotonic() - began


def _ask(client: httpx.Client, chat: Chat) -> None:
    """Have one chat answered, with as many tokens as were asked for, or the run is void."""
    asked = {"model": NAME, "messages": chat.messages, "max_tokens": chat.answer_tokens, "temperature": 0}
    answer = client.post("chat/completions", json=asked | {"ignore_eos": True})
    answer.raise_for_status()
    spoken = len(answer.json()["choices"][0]["token_ids"])
    if spoken != chat.answer_tokens:
        raise RuntimeError(f"{spoken} tokens came where {chat.answer_tokens} were asked for")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The engine's URL and process.

    Raises:
        StartError: it did not say where it serves.
    """
    environ = os.environ | {"PYTHONPATH": str(ROOT), "RLFLEET_ENGINE_KEY": KEY, "RLFLEET_TORCH_THREADS": "1"}
    command = [sys.executable, "-m", "gpu.engine", "--base", str(folder), "--name", NAME]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as engine:
        try:
            url = engine.stdout.readline().strip() if engine.stdout else ""
            if not url:
                raise StartError(f"{' '.join(command)} ended with {engine.wait()}; run it by hand to see why")
            yield url, psutil.Process(engine.pid)
        finally:
            engine.terminate()


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
