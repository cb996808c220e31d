"""Versions are loaded, switched and unloaded while the engine serves: no request is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from torch import Tensor

from gpu.engine import EngineServer
from gpu.generate import Decoder
from gpu.policy import Policy

USERS = [{"role": "user", "content": f"You see: wall {number} ahead"} for number in range(10)]
AT_ONCE = 16
SWITCHES = 4


@pytest.fixture
def server(base: Path, policy: Policy) -> Iterator[EngineServer]:
    policy.load("base", str(base))
    server = EngineServer(policy)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: EngineServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url + "/v1", timeout=60) as client:
        yield client


def ask(client: httpx.Client, version: str, user: int, **fields: Any) -> httpx.Response:
    asked = {"model": version, "messages": [USERS[user]], "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    return client.post("chat/completions", json=asked | fields)


def spoken(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    ids: list[int] = answer.json()["choices"][0]["token_ids"]
    return ids


def post(client: httpx.Client, path: str, version: str, folder: Path) -> int:
    return client.post(path, json={"lora_name": version, "lora_path": str(folder)}).status_code


def test_no_request_is_lost_while_versions_come_and_go(
    client: httpx.Client, make_adapter: Callable[[int], Path]
) -> None:
    folders = {f"v{number}": make_adapter(number) for number in range(3)}
    names = list(folders)
    want = {}
    for name, folder in folders.items():
        assert post(client, "load_lora_adapter", name, folder) == 200
        want |= {(name, user): spoken(ask(client, name, user)) for user in range(len(USERS))}
        assert post(client, "unload_lora_adapter", name, folder) == 200
    current, over = [names[0]], threading.Event()

    def agent(number: int) -> list[tuple[str, int, list[int]]]:
        """As the gateway does: a version that is unknown is loaded, and asked again."""
        heard = []
        while not over.is_set():
            name, user = current[0], (number + len(heard)) % len(USERS)
            answer = ask(client, name, user)
            for _ in range(20):
                if answer.status_code != 404:
                    break
                assert post(client, "load_lora_adapter", name, folders[name]) == 200
                answer = ask(client, name, user)
            heard.append((name, user, spoken(answer)))
        return heard

    with ThreadPoolExecutor(AT_ONCE) as pool:
        agents = [pool.submit(agent, number) for number in range(AT_ONCE)]
        try:
            for number in range(1, SWITCHES + 1):
                name, before = names[number % 3], names[(number - 1) % 3]
                assert post(client, "load_lora_adapter", name, folders[name]) == 200
                current[0] = name
                assert post(client, "unload_lora_adapter", before, folders[before]) in (200, 404)
                assert spoken(ask(client, "base", 0)) == spoken(ask(client, "base", 0))
        finally:
            over.set()
        heard = [one for agent in agents for one in agent.result()]
    assert len(heard) >= AT_ONCE
    assert len({name for name, _, _ in heard}) > 1
    assert [one for one in heard if one[2] != want[one[0], one[1]]] == []


def test_those_who_are_being_answered_keep_an_unloaded_version(
    server: EngineServer, client: httpx.Client, make_adapter: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pauses, draw = make_adapter(1), [0.0], Decoder._sample

    def sample(decoder: Decoder, logits: Tensor) -> tuple[list[int], list[float]]:
        time.sleep(pauses[-1])
        return draw(decoder, logits)

    monkeypatch.setattr(Decoder, "_sample", sample)
    assert post(client, "load_lora_adapter", "v1", folder) == 200
    want = spoken(ask(client, "v1", 3, max_tokens=150))
    pauses.append(0.2)  # nobody is done before the version has gone
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(ask, client, "v1", 3, max_tokens=150) for _ in range(AT_ONCE)]
        deadline = time.monotonic() + 60
        while server.scheduler.running < AT_ONCE:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert post(client, "unload_lora_adapter", "v1", folder) == 200
        assert server.scheduler.running == AT_ONCE
        pauses.append(0.0)
        assert ask(client, "v1", 3).status_code == 404
        assert [spoken(one.result()) for one in asked] == [want] * AT_ONCE
