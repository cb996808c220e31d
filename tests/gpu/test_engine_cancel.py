"""Clients that leave: their slots are free at the next step, and their places in the queue too."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from torch import Tensor

from gpu.engine import EngineServer
from gpu.generate import Decoder
from gpu.policy import Policy

USER = {"role": "user", "content": "You see: wall 4 ahead"}
LIMIT = 1900


@pytest.fixture
def server(base: Path, policy: Policy) -> Iterator[EngineServer]:
    policy.load("v1", str(base))
    server = EngineServer(policy)
    server.start()
    yield server
    server.stop()


class Steps(list[int]):
    """How many rows each step decoded, and the seconds that a step lasts at least."""

    seconds = 0.02


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """No answer ends by itself before ``LIMIT`` tokens, which take longer than anybody waits here."""
    counted = Steps()

    def sample(decoder: Decoder, logits: Tensor) -> tuple[list[int], list[float]]:
        counted.append(len(decoder.rows))
        time.sleep(counted.seconds)
        return [5] * len(decoder.rows), [0.0] * len(decoder.rows)

    monkeypatch.setattr(Decoder, "_sample", sample)
    yield counted
    counted.seconds = 0.0


def ask(server: EngineServer, **fields: Any) -> Any:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", timeout=60, max_retries=0) as client:
        asked = {"model": "v1", "messages": [USER], "max_tokens": LIMIT}
        return client.chat.completions.create(**{**asked, **fields})


@contextmanager
def somebody_asks(server: EngineServer) -> Iterator[None]:
    """Whoever asked leaves without an answer when the block ends."""
    body = json.dumps({"model": "v1", "messages": [USER], "max_tokens": LIMIT})
    with closing(HTTPConnection(server.url.removeprefix("http://"), timeout=60)) as connection:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        yield


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_caller_that_gives_up_frees_its_slot(server: EngineServer, steps: Steps) -> None:
    with somebody_asks(server):
        wait_for(lambda: len(steps) > 0)
    wait_for(lambda: server.scheduler.running == 0)
    assert len(steps) < LIMIT
    assert len(ask(server, max_tokens=3).choices[0].token_ids) == 3


def test_a_stream_that_is_closed_frees_its_slot(server: EngineServer, steps: Steps) -> None:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", timeout=60) as client:
        stream = client.chat.completions.create(
            model="v1",
            messages=[{"role": "user", "content": "You see: wall 4 ahead"}],
            max_tokens=LIMIT,
            stream=True,
        )
        next(iter(stream))
        wait_for(lambda: len(steps) > 2)
        assert httpx.get(server.url + "/health").json()["running"] == 1
        stream.close()
        wait_for(lambda: server.scheduler.running == 0)
    assert len(steps) < LIMIT


def test_those_who_stay_are_answered(server: EngineServer, steps: Steps) -> None:
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(ask, server, max_tokens=1000)
        wait_for(lambda: len(steps) > 0)
        with somebody_asks(server):
            wait_for(lambda: 2 in steps)
        steps.seconds = 0.0
        assert len(staying.result().choices[0].token_ids) == 1000
    wait_for(lambda: server.scheduler.running == 0)
    assert set(steps) == {1, 2}


def test_who_left_the_queue_is_never_decoded(server: EngineServer, policy: Policy, steps: Steps) -> None:
    with policy.lock:
        with somebody_asks(server):
            wait_for(lambda: server.scheduler.waiting == 1)
        (queue,) = server.scheduler._waiting.values()
        wait_for(queue[0].cancelled.is_set)
    wait_for(lambda: server.scheduler.waiting == 0)
    ask(server, max_tokens=2)
    assert steps == [1, 1]
