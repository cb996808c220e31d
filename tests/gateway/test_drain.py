"""``python -m gateway`` told to stop with 64 streams under way."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.gateway.test_capture_killed import CLIENT, USER, RealGateway, running, stored
from tests.recorder.doubles import wait_until

STREAMS = 64


class Streams:
    """Each in a thread; what it has got so far, by the id of its call."""

    def __init__(self, url: str) -> None:
        self.url, self.got = url, dict[str, str]()
        self._pool = ThreadPoolExecutor(STREAMS)
        self.running = [self._pool.submit(self._one, f"c{number}") for number in range(STREAMS)]

    def end(self) -> list[Future[None]]:
        self._pool.shutdown()
        return self.running

    def _one(self, call_id: str) -> None:
        headers = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Call-Id": call_id}
        body = {"messages": [USER], "stream": True}
        with CLIENT.stream("POST", f"{self.url}/v1/chat/completions", json=body, headers=headers) as response:
            assert response.status_code == 200
            for part in response.iter_text():
                self.got[call_id] = self.got.get(call_id, "") + part


def is_listening(gateway: RealGateway) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", gateway.port)) == 0


def under_way(world: World, gateway: RealGateway) -> tuple[FakeEngine, Streams]:
    """64 streams that have begun, and do not end before the engine's fate is changed."""
    engine = world.engine(fate="endless")
    world.release(0)
    streams = Streams(gateway.url)
    wait_until(lambda: len(streams.got) == STREAMS or any(one.done() for one in streams.running))
    return engine, streams


def test_no_stream_is_cut_off_within_the_bound(world: World, tmp_path: Path, database_url: str) -> None:
    with running(database_url, tmp_path, RLFLEET_GATEWAY_DRAIN_SECONDS="200") as gateway:
        engine, streams = under_way(world, gateway)

        ended = threading.Thread(target=gateway.end)
        ended.start()
        wait_until(lambda: not is_listening(gateway))
        assert not any(one.done() for one in streams.running)
        engine.fate = ""

        assert [one.exception() for one in streams.end()] == [None] * STREAMS
        ended.join(60)
        assert not ended.is_alive()
        assert all(got.endswith("data: [DONE]\n\n") for got in streams.got.values())
        assert set(stored(world)) == streams.got.keys()


@pytest.mark.slow
def test_beyond_the_bound_a_stream_is_cut_off_and_not_recorded(world: World, tmp_path: Path, database_url: str) -> None:
    with running(database_url, tmp_path, RLFLEET_GATEWAY_DRAIN_SECONDS="1") as gateway:
        engine, streams = under_way(world, gateway)

        gateway.end()

        streams.end()
        engine.fate = ""
        assert not any("[DONE]" in got for got in streams.got.values())
        assert world.count() == 0
