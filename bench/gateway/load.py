"""``python -m bench.gateway.load``: callers in a process of their own; a job on stdin, what they saw on stdout.

A **closed** loop sends the next call of a connection when the one before is answered: it measures throughput. An
**open** loop sends calls at moments that do not depend on the answers, and a call's latency counts from its moment,
waiting for a connection included: only so do two servers of different speed get the same arrivals.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.gateway.wire import Connection, Reply, events, request

WORDS = ("go", "turn", "left", "right", "red", "blue", "green", "key", "ball", "door", "wall", "open", "you", "see")
PROMPT_WORDS = 24


@dataclass(frozen=True)
class Job:
    """``calls`` to ``model`` at a port of this machine. ``rate`` calls a second arrive; None is a closed loop.

    ``name`` and ``seed`` make prompts and arrivals; two jobs have prompts of their own, because an engine remembers
    prompts. ``begin`` is on the clock of ``time.monotonic``, which the processes of a machine share; 0 is at once.
    """

    name: str
    port: int
    key: str
    model: str
    calls: int
    connections: int
    new_tokens: int
    stream: bool = False
    rate: float | None = None
    seed: int = 0
    begin: float = 0.0


@dataclass
class Seen:
    """Seconds: of the whole, of each call, until each stream's first text. ``wrong`` counts calls by what was wrong."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    wrong: dict[str, int] = field(default_factory=dict)


async def play(job: Job) -> Seen:
    """Send every call and wait for the answers."""
    seen = Seen()
    connections = [await Connection.connect("127.0.0.1", job.port) for _ in range(job.connections)]
    waiting = iter(list(zip(_requests(job), _arrivals(job), strict=False)))
    began = max(job.begin, time.monotonic())
    await asyncio.sleep(began - time.monotonic())
    await asyncio.gather(*(_keep_asking(one, waiting, began, job, seen) for one in connections))
    seen.seconds = time.monotonic() - began
    for one in connections:
        await one.close()
    return seen


async def _keep_asking(
    connection: Connection, waiting: Iterator[tuple[bytes, float]], began: float, job: Job, seen: Seen
) -> None:
    for asking, arrival in waiting:
        due = began + arrival if job.rate else time.monotonic()
        if (early := due - time.monotonic()) > 0:
            await asyncio.sleep(early)
        reply = await connection.ask(asking)
        ended = time.monotonic()
        if wrong := _wrong(reply, job):
            seen.wrong[wrong] = seen.wrong.get(wrong, 0) + 1
            continue
        seen.latencies.append(ended - due)
        if reply.first is not None:
            seen.firsts.append(reply.first - due)


def _wrong(reply: Reply, job: Job) -> str:
    """What is wrong with a reply, or nothing: it must have as many tokens as were asked for."""
    if reply.status != 200:
        return f"{reply.status} {reply.body[:200].decode(errors='replace')}"
    said = events(reply.body)[-1] if job.stream else json.loads(reply.body)
    tokens = (said.get("usage") or {}).get("completion_tokens")
    return "" if tokens == job.new_tokens else f"{tokens} tokens where {job.new_tokens} were asked for"


def _requests(job: Job) -> Iterator[bytes]:
    chosen = random.Random(f"{job.seed} {job.name}")
    for number in range(job.calls):
        text = " ".join(chosen.choices(WORDS, k=PROMPT_WORDS))
        body: dict[str, Any] = {"model": job.model, "messages": [{"role": "user", "content": text}]}
        body |= {"max_tokens": job.new_tokens, "ignore_eos": True, "temperature": 1.0, "seed": number}
        if job.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        call = f"{job.name}-{job.seed}-{number}"
        headers = {"x-agent-id": f"agent-{number % job.connections}", "x-trajectory-id": call, "x-call-id": call}
        headers["authorization"] = f"Bearer {job.key}"
        yield request(f"127.0.0.1:{job.port}", "/v1/chat/completions", headers, body)


def _arrivals(job: Job) -> Iterator[float]:
    """Seconds after the beginning; a Poisson process."""
    drawn = random.Random(f"{job.seed} {job.name}")
    gaps = (drawn.expovariate(job.rate) if job.rate else 0.0 for _ in itertools.count())
    return itertools.accumulate(gaps)


if __name__ == "__main__":
    gc.disable()
    sys.stdout.write(json.dumps(asdict(asyncio.run(play(Job(**json.load(sys.stdin)))))))
