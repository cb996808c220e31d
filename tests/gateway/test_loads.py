"""Several loads on one server, by this gateway and by others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import JSONResponse

from db.session import transaction
from gateway import adapters, loading, probing
from tests.gateway.adapter_servers import Sglang, Vllm
from tests.gateway.conftest import World
from tests.gateway.test_adapters import choose, configured, table
from tests.gateway.test_completions import VERSION, ask, problem
from tests.recorder.doubles import wait_until

PATIENCE = 60.0


def up(world: World, folder: Path, server: Vllm, more: str = "") -> httpx.Client:
    server.folders |= {f"/checkpoints/{name}" for name in world.names}
    return world.gateway(**configured(folder, gpu=f"{table(world, server)}\n{more}"))


class Slow(Vllm):
    """One that loads what is ``slow`` when it may."""

    slow = ""

    def __init__(self) -> None:
        super().__init__()
        self.is_loading, self.may_load = threading.Event(), threading.Event()

    async def load(self, request: Request) -> JSONResponse:
        if (await request.json())["lora_name"] == self.slow:
            self.is_loading.set()
            while not self.may_load.is_set():
                await asyncio.sleep(0.01)
        return await super().load(request)

    @contextmanager
    def loading(self, gateway: httpx.Client, name: str) -> Iterator[None]:
        """Within it that version is being loaded, because a call asks for it; after it the call is answered."""
        self.slow = name
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(ask, gateway, name, Call="late")
            try:
                assert self.is_loading.wait(PATIENCE)
                yield
            finally:
                self.may_load.set()
            assert late.result().status_code == 200


def failed_calls() -> list[tuple[str, bool]]:
    with transaction() as session:
        rows = session.execute(text("select reason, asked from rlfleet.call_failures"))
        return [(row.reason, row.asked) for row in rows]


@pytest.mark.parametrize("more", ["", "adapters = 3"])
def test_callers_do_not_wait_for_an_adapter_that_others_load(world: World, tmp_path: Path, more: str) -> None:
    """While one version is loaded, another that is there answers, and a third is loaded."""
    server = Slow()
    gateway = up(world, tmp_path, server, more)
    there, late, third = world.names[:3]
    assert ask(gateway, there).status_code == 200

    with server.loading(gateway, late):
        assert ask(gateway, there).headers[VERSION] == there
        assert ask(gateway, third).headers[VERSION] == third


def test_a_load_under_way_has_its_place(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no other, that says nothing of the version that finds none, and only until the load ends."""
    monkeypatch.setattr(adapters, "REFUSED_SECONDS", 600.0)
    server = Slow()
    gateway = up(world, tmp_path, server, "adapters = 2")
    world.release(0)
    world.release(1, stage="canary", share=50)
    stable, canary, late = world.names[:3]
    assert ask(gateway, stable).status_code == 200

    with server.loading(gateway, late):
        why = "has 2 adapters, all of them live or being loaded; raise adapters = 2 of gpu"
        assert why in problem(ask(gateway, canary))[2]
        answers = [ask(gateway, Call=f"c{number}", Agent=f"a{number}") for number in range(24)]
        assert {answer.headers[VERSION] for answer in answers} == {stable, "base"}
        wait_until(lambda: set(failed_calls()) == {(f"gpu: {why}", False)}, PATIENCE)
    assert set(server.roots) == {stable, late}
    assert ask(gateway, canary).headers[VERSION] == canary
    assert set(server.roots) == {stable, canary}


def test_a_full_server_is_not_asked_by_every_call(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probing, "SECONDS", 600.0)
    monkeypatch.setattr(adapters, "REFUSED_SECONDS", 600.0)
    monkeypatch.setattr(loading, "SEEN_SECONDS", 600.0)
    server = Vllm()
    gateway = up(world, tmp_path, server, "adapters = 1")
    world.release(0)
    stable, late, other = world.names[:3]
    assert ask(gateway, stable).status_code == 200
    why = "has 1 adapters, all of them live; raise adapters = 1 of gpu"
    assert why in problem(ask(gateway, late))[2]

    caplog.clear()
    looked = server.probed
    for _ in range(20):
        assert why in problem(ask(gateway, late))[2]
    assert (server.probed, [one for one in caplog.messages if why in one]) == (looked, [])
    assert ask(gateway, stable).status_code == 200
    monkeypatch.setattr(adapters, "REFUSED_SECONDS", 0.0)
    for number in range(2):
        assert why in problem(ask(gateway, other))[2]
        assert server.probed == looked + 2 * (number + 1), "what it has, and whether there is room"


def test_who_waits_for_a_place_gives_up(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not come to an end of unloading what is to make room."""
    server, gone = Vllm(roots={"old": "/checkpoints/old"}), threading.Event()

    async def hang(_: Request) -> JSONResponse:
        while not gone.is_set():
            await asyncio.sleep(0.01)
        return JSONResponse({}, 500)

    server.unload = hang  # type: ignore[method-assign]
    gateway = up(world, tmp_path, server, "adapters = 1")
    monkeypatch.setattr(adapters, "ROOM_SECONDS", 0.5)

    assert f"gpu: did not make room for {world.names[0]} within 0.5 s" in problem(ask(gateway, world.names[0]))[2]
    gone.set()


def test_a_server_that_does_not_say_in_time_what_it_has_is_not_asked(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, may_say = Vllm(), threading.Event()
    plain = server.models

    async def slow(request: Request) -> JSONResponse:
        while not may_say.is_set():
            await asyncio.sleep(0.01)
        return await plain(request)

    server.models = slow  # type: ignore[method-assign]
    gateway = up(world, tmp_path, server)

    monkeypatch.setattr(loading, "LIST_SECONDS", 0.5)
    assert "gpu: did not say within 0.5 s what it serves" in problem(ask(gateway, world.names[0]))[2]
    assert (server.asked, server.said) == ([], [])
    may_say.set()
    monkeypatch.setattr(loading, "LIST_SECONDS", PATIENCE)
    assert ask(gateway, world.names[0]).headers[VERSION] == world.names[0]


@pytest.mark.parametrize("kind", [Vllm, Sglang])
def test_what_another_gateway_loaded_under_the_name_is_seen(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Vllm]
) -> None:
    name = world.names[0]
    server, folder = kind(), f"/checkpoints/{name}"
    gateway = up(world, tmp_path, server)
    assert ask(gateway, name).status_code == 200

    monkeypatch.setattr(loading, "SEEN_SECONDS", 600.0)
    server.roots[name] = "/checkpoints/last"
    asked = server.probed
    assert ask(gateway, name).status_code == 200
    assert (server.probed, server.said) == (asked, [("load", folder)]), "what was seen a moment ago counts"
    monkeypatch.setattr(loading, "SEEN_SECONDS", 0.0)
    for _ in range(3):
        assert ask(gateway, name).headers[VERSION] == name
    assert server.said == [("load", folder), ("unload", name), ("load", folder)]
    assert server.roots == {name: folder}


@pytest.mark.parametrize("root", ["/of/its/host/chosen", None])
def test_a_server_that_names_its_folder_otherwise_loads_it_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str | None
) -> None:
    """An engine says where a link leads on its own host; others do not list adapters."""
    monkeypatch.setattr(loading, "SEEN_SECONDS", 0.0)
    name, server = world.names[0], Vllm()
    plain = server.load

    async def load(request: Request) -> JSONResponse:
        answer = await plain(request)
        server.roots[name] = root  # type: ignore[assignment]
        return answer

    server.load = load  # type: ignore[method-assign]
    gateway = up(world, tmp_path, server)
    for _ in range(4):
        assert ask(gateway, name).headers[VERSION] == name
    assert server.said == [("load", f"/checkpoints/{name}")]


PLACE, OLDER = "/checkpoints/jobs/7/fence-2/step-000004", "/checkpoints/jobs/5/fence-1/step-000002"


@pytest.mark.parametrize(("uri", "before", "other"), [(PLACE, None, OLDER), ("/chosen", "/last", "/last")])
def test_another_gateway_that_loads_another_checkpoint_before_the_look_is_not_believed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, before: str | None, other: str
) -> None:
    monkeypatch.setattr(loading, "SEEN_SECONDS", 600.0)
    name, server = world.names[0], Vllm(folders={uri})
    choose(name, uri)
    if before is not None:
        server.roots[name] = before
    plain, swapped = server.load, []

    async def load(request: Request) -> JSONResponse:
        answer = await plain(request)
        if not swapped:
            swapped.append(server.roots[name])
            server.roots[name] = other
        return answer

    server.load = load  # type: ignore[method-assign]
    gateway = up(world, tmp_path, server)

    for _ in range(3):
        assert ask(gateway, name).status_code == 200
    assert (swapped, server.roots) == ([uri], {name: uri})
    assert server.said[-3:] == [("load", uri), ("unload", name), ("load", uri)]


def test_a_server_that_says_the_same_of_every_folder_loads_it_once_more_at_most(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the version when the gateway starts."""
    monkeypatch.setattr(loading, "SEEN_SECONDS", 0.0)
    name, folder = world.names[0], "/checkpoints/" + world.names[0]
    server = Vllm(roots={name: "/of/its/own"})
    plain = server.load

    async def load(request: Request) -> JSONResponse:
        answer = await plain(request)
        server.roots[name] = "/of/its/own"
        return answer

    server.load = load  # type: ignore[method-assign]
    gateway = up(world, tmp_path, server)
    for _ in range(4):
        assert ask(gateway, name).headers[VERSION] == name
    assert server.said == [("unload", name), ("load", folder)] * 2
