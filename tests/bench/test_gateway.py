"""The benchmark of the gateway: its numbers are those of its blocks, and its callers see what a server sends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.gateway import load, measure, wire
from bench.gateway.load import Job, Seen
from bench.gateway.measure import Block, closed, gates, opened, spread

ROOT = Path(__file__).parents[2]
JOB = Job("one", 1, "key", "main", calls=6, connections=2, new_tokens=3)


def block(seconds: float, milliseconds: list[float], cpu: float = 0.0, behind: float = 0.0) -> Block:
    return Block(Seen(seconds, [one / 1000 for one in milliseconds]), cpu, behind, len(milliseconds))


def test_throughput_is_the_median_of_the_pairs() -> None:
    pairs = [(block(1, [1] * 100), block(1, [1] * share, cpu=0.1 * share, behind=share)) for share in (70, 50, 65)]
    found = closed(pairs)
    assert (found["direct_per_second"], found["gateway_per_second"]) == (100, 65)
    assert (found["throughput"], found["throughputs"]) == (0.65, [0.7, 0.5, 0.65])
    assert (found["cpu_ms_a_call"], found["stored_after_seconds"]) == (100, 70)


def test_what_is_added_is_the_median_over_pairs_of_the_medians() -> None:
    pairs = [(block(1, [10, 11, 12]), block(1, [10, 11 + more, 90])) for more in (4, 1, 70)]
    found = opened(pairs)
    assert (found["added_ms"], found["added"]) == (4, [4, 1, 70])
    assert found["direct_ms"] == {"p50": 11, "p90": 12, "p99": 12}
    assert found["gateway_ms"] == {"p50": 15, "p90": 90, "p99": 90}
    assert "direct_first_text_ms" not in found


def test_percentiles_are_nearest_ranks() -> None:
    assert spread([one / 1000 for one in range(1, 201)]) == {"p50": 100, "p90": 180, "p99": 198}


@pytest.mark.parametrize(
    ("throughput", "added", "recorded", "held"),
    [(0.6, 5.0, 9, [True, True, True]), (0.59, 5.1, 8, [False, False, False]), (0.9, -2.0, 9, [True, True, True])],
)
def test_the_gates(throughput: float, added: float, recorded: int, held: list[bool]) -> None:
    report = {
        "closed": {"throughput": throughput},
        "open": {"added_ms": added},
        "answered": 9,
        "recorded": recorded,
    }
    assert list(gates(report).values()) == held


def test_both_arms_take_turns_at_being_first(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[Job] = []

    def play(arm: measure.Arm, job: Job) -> Block:
        played.append(job)
        return block(1, [1])

    monkeypatch.setattr(measure, "block", play)
    arms = measure.Arm("direct", JOB, 1), measure.Arm("gateway", replace(JOB, seed=0), 2)
    assert len(measure.pairs(arms, "open", 2, rate=5.0)) == 2
    assert [job.name for job in played] == ["open-gateway", "open-direct", "open-direct", "open-gateway"]
    assert [job.seed for job in played] == [0, 0, 1, 1]
    assert {job.rate for job in played} == {5.0}


def test_arrivals_repeat_and_prompts_do_not() -> None:
    one, other = replace(JOB, rate=50.0, calls=400), replace(JOB, name="other", rate=50.0, calls=400)
    arrivals = [
        [moment for moment, _ in zip(load._arrivals(job), range(400), strict=False)] for job in (one, one, other)
    ]
    assert arrivals[0] == arrivals[1] != arrivals[2]
    assert arrivals[0][-1] == pytest.approx(8, rel=0.15)
    asked = [list(load._requests(job)) for job in (one, other)]
    assert len({*asked[0], *asked[1]}) == 800


def test_both_arms_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[Job] = []

    def play(arm: measure.Arm, job: Job) -> Block:
        played.append(job)
        return block(1, [1 if arm.name == "direct" else 2])

    monkeypatch.setattr(measure, "block", play)
    found = measure.together((measure.Arm("direct", JOB, 1), measure.Arm("gateway", JOB, 2)), "open", 2, rate=5.0)
    assert opened(found)["added"] == [1, 1]
    assert sorted(job.name for job in played) == ["open-direct", "open-direct", "open-gateway", "open-gateway"]
    assert len({job.begin for job in played}) == 2


Answer = Callable[[dict[str, Any]], bytes]


async def _serving(answer: Answer, ask: Callable[[int], Awaitable[Any]]) -> Any:
    """What ``ask`` says of a server on a port of its own that answers each request so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            writer.write(answer(json.loads(await reader.readexactly(length))))

    handlers: list[asyncio.Task[Any]] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        seen = await ask(server.sockets[0].getsockname()[1])
        await asyncio.gather(*handlers)
    return seen


def whole(asked: dict[str, Any]) -> bytes:
    body = json.dumps({"usage": {"completion_tokens": asked["max_tokens"]}}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def streamed(asked: dict[str, Any]) -> bytes:
    said: list[dict[str, Any]] = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"delta": {"content": "a"}}]},
    ]
    said.append({"choices": [], "usage": {"completion_tokens": asked["max_tokens"]}})
    text = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in said) + b"data: [DONE]\n\n"
    pieces = [text[start : start + 30] for start in range(0, len(text), 30)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize("rate", [None, 500.0])
@pytest.mark.parametrize("stream", [False, True])
def test_callers_see_each_answer(stream: bool, rate: float | None) -> None:
    async def ask(port: int) -> Seen:
        return await load.play(replace(JOB, port=port, stream=stream, rate=rate))

    seen: Seen = asyncio.run(_serving(streamed if stream else whole, ask))
    assert (seen.wrong, len(seen.latencies), len(seen.firsts)) == ({}, 6, 6 if stream else 0)
    assert all(0 < first <= last for first, last in zip(seen.firsts, seen.latencies, strict=False))


def test_too_few_tokens_and_refusals_are_told() -> None:
    async def ask(port: int) -> Seen:
        return await load.play(replace(JOB, port=port))

    short = asyncio.run(_serving(lambda asked: whole(asked | {"max_tokens": 2}), ask))
    refused = asyncio.run(_serving(lambda _: b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", ask))
    assert short.wrong == {"2 tokens where 3 were asked for": 6}
    assert (refused.wrong, refused.latencies) == ({"503 no": 6}, [])


def test_events_leave_out_the_end() -> None:
    assert wire.events(b'data: {"a": 1}\n\n: a comment\n\ndata: {"b": 2}\n\ndata: [DONE]\n\n') == [{"a": 1}, {"b": 2}]


@pytest.mark.slow
def test_a_quick_run_measures_all(tmp_path: Path) -> None:
    """Whether its gates hold is for a quiet machine to say."""
    file = tmp_path / "gateway.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.gateway", "--quick", "--seed", "3", "--json", str(file)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == f"{file}\n", run.stderr
    outcome = json.loads(file.read_bytes())
    assert (outcome["schema"], outcome["seed"], outcome["quick"]) == (1, 3, True)
    assert run.returncode == (0 if outcome["passed"] else 1)
    assert outcome["answered"] == outcome["recorded"] > 0
    assert set(outcome["gates"]) == {"throughput", "added_ms", "recorded"}
    assert outcome["streamed"]["gateway_first_text_ms"]["p50"] < outcome["streamed"]["gateway_ms"]["p50"]
