"""``python -m gateway`` killed at any moment under load: what an agent acts on is what is stored, once."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest

from fleet.ports import free_port
from fleet.processes import ROOT
from tests.gateway.away import out_of_reach
from tests.gateway.conftest import World
from tests.recorder.doubles import wait_until

AGENTS = 8
CLIENT = httpx.Client(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=200))
"""For all threads: to make one costs more than a call."""
USER = {"role": "user", "content": "You see: red ball 3 ahead"}


class RealGateway:
    """A process on one port and one spool, as often as it is started."""

    def __init__(self, database_url: str, spool: Path, **variables: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RLFLEET_")}
        self._environ = kept | {
            "DATABASE_URL": database_url,
            "RLFLEET_GATEWAY_PORT": str(self.port),
            "RLFLEET_SPOOL_DIR": str(spool),
            **variables,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, most_file_bytes: int = resource.RLIM_INFINITY) -> None:
        out = None if most_file_bytes == resource.RLIM_INFINITY else subprocess.DEVNULL  # pytest's is a file
        words = [sys.executable, "-m", "gateway"]
        self.process = subprocess.Popen(words, cwd=ROOT, env=self._environ, stdout=out, stderr=out)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most_file_bytes, resource.RLIM_INFINITY))
        wait_until(self._lives, 240)

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(60)

    def _lives(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "it did not start"
        time.sleep(0.1)  # it needs the processor more than who asks
        try:
            return CLIENT.get(f"{self.url}/live").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running(database_url: str, spool: Path, **variables: str) -> Iterator[RealGateway]:
    gateway = RealGateway(database_url, spool, **variables)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.kill()


def ask(url: str, call_id: str) -> httpx.Response:
    headers = {"X-Agent-Id": "a1", "X-Trajectory-Id": "t1", "X-Call-Id": call_id}
    return CLIENT.post(f"{url}/v1/chat/completions", json={"messages": [USER]}, headers=headers)


def waiting(url: str) -> int:
    """How many records its spool holds that are not known to be stored."""
    return int(CLIENT.get(f"{url}/health").json()["capture"]["waiting"])


class Agents:
    """Threads that repeat each call under its id until it is answered; ``said`` is what they then act on."""

    def __init__(self, url: str) -> None:
        self.url, self.said = url, dict[str, str]()
        self.repeated = 0
        self._over = threading.Event()

    def __enter__(self) -> Agents:
        self._pool = ThreadPoolExecutor(AGENTS)
        self._playing = [self._pool.submit(self._play, number) for number in range(AGENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for one in self._playing:
            one.result()

    def more(self, count: int) -> None:
        wanted = len(self.said) + count
        wait_until(lambda: len(self.said) >= wanted or any(one.done() for one in self._playing), 240)

    def _play(self, agent: int) -> None:
        turn = 0
        while not self._over.is_set():
            call_id = f"agent-{agent}/{turn}"
            while (said := self._try(call_id)) is None:
                self.repeated += 1
                time.sleep(0.1)  # as any client waits between two tries
            self.said[call_id] = said
            turn += 1

    def _try(self, call_id: str) -> str | None:
        try:
            answer = ask(self.url, call_id)
        except httpx.TransportError:
            return None
        assert answer.status_code in (200, 503), answer.text
        return str(answer.json()["choices"][0]["message"]["content"]) if answer.status_code == 200 else None


def stored(world: World) -> dict[str, str | None]:
    return {call.call_id: call.response.content for call in world.calls()}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("is_away", [False, True])
def test_killed_at_any_moment_what_an_agent_acts_on_is_what_is_stored(
    world: World, seed: int, tmp_path: Path, postgres_url: str, database_url: str, is_away: bool
) -> None:
    draw = random.Random(seed)
    world.engine()
    world.release(0)
    with running(database_url, tmp_path) as gateway, Agents(gateway.url) as agents:
        agents.more(40)
        with out_of_reach(postgres_url, database_url) if is_away else nullcontext():
            for _ in range(5):
                agents.more(draw.randint(1, 200))
                gateway.kill()
                gateway.start()
            agents.more(40)
        agents.more(40)
        agents.__exit__()
        wait_until(lambda: waiting(gateway.url) == 0)

    assert agents.repeated > 0
    found = stored(world)
    assert {call_id: found.get(call_id) for call_id in agents.said} == agents.said
    assert world.count() == len(found)
    assert len(set(found.values())) == len(found), "each call is an answer of its own"


def test_a_repeat_after_a_kill_gets_what_was_recorded_first(
    world: World, tmp_path: Path, postgres_url: str, database_url: str
) -> None:
    engine = world.engine()
    world.release(0)
    with running(database_url, tmp_path) as gateway:
        ask(gateway.url, "known")
        with out_of_reach(postgres_url, database_url):
            first = ask(gateway.url, "c1").json()
            gateway.kill()
            gateway.start()
            again = ask(gateway.url, "c1").json()
            assert len(engine.asked) == 2
        wait_until(lambda: world.count() == 2)
        gateway.kill()
        for path in tmp_path.glob("*.segment"):
            path.unlink()
        gateway.start()
        last = ask(gateway.url, "c1").json()

    choices = [one["choices"][0] for one in (first, again, last)]
    assert [one["message"]["content"] for one in choices] == ["go to the red ball 2"] * 3
    assert [one["token_ids"] for one in choices] == [[2, 2]] * 3
    assert stored(world)["c1"] == "go to the red ball 2"


def test_a_second_gateway_on_the_folder_does_not_start(world: World, tmp_path: Path, database_url: str) -> None:
    with running(database_url, tmp_path) as gateway:
        assert gateway.process is not None
        second = RealGateway(database_url, tmp_path)
        words = [sys.executable, "-m", "gateway"]
        ended = subprocess.run(words, cwd=ROOT, env=second._environ, check=False, capture_output=True, text=True)
        assert ended.returncode != 0
        assert f"is used by the gateway of process {gateway.process.pid}" in ended.stderr
        assert "set RLFLEET_SPOOL_DIR to another folder" in ended.stderr


def test_while_its_disk_is_full_a_gateway_answers_nothing_that_it_could_not_record(
    world: World, tmp_path: Path, postgres_url: str, database_url: str
) -> None:
    world.engine()
    world.release(0)
    gateway = RealGateway(database_url, tmp_path)
    gateway.start(most_file_bytes=10_000)
    try:
        assert ask(gateway.url, "before").status_code == 200
        with out_of_reach(postgres_url, database_url):
            answers = {f"c{number}": ask(gateway.url, f"c{number}") for number in range(40)}
            taken = {call_id for call_id, answer in answers.items() if answer.status_code == 200}
            assert 10 < len(taken) < 40
            refused = answers["c39"]
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "spool_unwritable")
            assert refused.headers["Retry-After"] == "10"
            assert "make room on its disk" in refused.json()["error"]["message"]
        wait_until(lambda: world.count() == 1 + len(taken) and waiting(gateway.url) == 0)
        assert ask(gateway.url, "c39").status_code == 200
        wait_until(lambda: set(stored(world)) == {"before", "c39", *taken})
    finally:
        gateway.kill()
