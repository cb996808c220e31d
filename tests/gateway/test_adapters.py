"""Our versions on vLLM and SGLang: which adapters are loaded, from where, and which make room."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import JSONResponse

from db.session import transaction
from tests.gateway.adapter_servers import BASE, BASE_MODEL, Sglang, Vllm
from tests.gateway.conftest import World
from tests.gateway.doubles import pass_seconds
from tests.gateway.test_completions import USER, VERSION, ask, problem
from tests.gateway.test_streamed import stream
from tests.recorder.doubles import wait_until

PATIENCE = 60.0


def configured(folder: Path, **tables: str) -> dict[str, str]:
    """The variables of a gateway with these upstreams; each is the TOML of its table."""
    path = folder / "upstreams.toml"
    path.write_text("\n".join(f"[upstreams.{name}]\n{one}\n" for name, one in tables.items()))
    return {"RLFLEET_UPSTREAMS": str(path), "RLFLEET_ARTIFACTS": "/checkpoints"}


def table(world: World, server: Vllm) -> str:
    """The table of a server that loads adapters. What SGLang calls its base model need not be its folder."""
    kind, url = "sglang" if isinstance(server, Sglang) else "vllm", world.serve(server.app())
    bases = f'\nbases = ["{BASE}"]' if kind == "sglang" else ""
    return f'kind = "{kind}"\nurl = "{url}/v1"{bases}'


@pytest.fixture
def up(world: World, tmp_path: Path) -> Callable[..., httpx.Client]:
    """A gateway with one server that loads adapters, from the folders of the world's versions."""

    def up(server: Vllm, more: str = "", **variables: str) -> httpx.Client:
        server.folders |= {f"/checkpoints/{name}" for name in world.names}
        return world.gateway(**configured(tmp_path, gpu=f"{table(world, server)}\n{more}"), **variables)

    return up


def choose(name: str, uri: str, kind: str = "adapter") -> None:
    """A decision chose another checkpoint of the version."""
    change = "update rlfleet.checkpoints set uri = :uri, kind = :kind where id = (select checkpoint_id from"
    with transaction() as session:
        session.execute(
            text(f"{change} rlfleet.versions where name = :name)"), {"uri": uri, "kind": kind, "name": name}
        )


def until_loaded(gateway: httpx.Client, server: Vllm, uri: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while uri not in server.roots.values():
        assert ask(gateway).status_code == 200
        assert time.monotonic() < deadline


@pytest.mark.parametrize("kind", [Vllm, Sglang])
def test_a_version_is_loaded_once_however_many_ask(
    world: World, up: Callable[..., httpx.Client], kind: type[Vllm]
) -> None:
    server, name = kind(), world.names[0]
    world.release(0)
    gateway = up(server)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(gateway), range(8)))

    assert [answer.headers.get(VERSION) for answer in answers] == [name] * 8
    assert server.said == [("load", f"/checkpoints/{name}")]
    assert len(server.asked) == 8


@pytest.mark.parametrize("kind", [Vllm, Sglang])
def test_another_checkpoint_under_the_same_name_is_unloaded_and_loaded(
    world: World, up: Callable[..., httpx.Client], kind: type[Vllm]
) -> None:
    name = world.names[0]
    server = kind(roots={name: "/checkpoints/last"}, folders={"/checkpoints/chosen"})
    world.release(0)
    gateway = up(server)

    assert ask(gateway).headers[VERSION] == name
    assert server.said == [("unload", name), ("load", f"/checkpoints/{name}")]
    choose(name, "/checkpoints/chosen")
    until_loaded(gateway, server, "/checkpoints/chosen")
    assert server.said[2:] == [("unload", name), ("load", "/checkpoints/chosen")]


@pytest.mark.parametrize("kind", [Vllm, Sglang])
def test_a_server_that_was_started_again_loads_again(
    world: World, up: Callable[..., httpx.Client], kind: type[Vllm]
) -> None:
    server, name = kind(), world.names[0]
    world.release(0)
    gateway = up(server)
    assert ask(gateway).headers[VERSION] == name

    server.roots.clear()
    assert ask(gateway).headers[VERSION] == name
    assert server.said == [("load", f"/checkpoints/{name}")] * 2


def test_a_folder_is_named_as_the_server_sees_it(world: World, up: Callable[..., httpx.Client]) -> None:
    seen = f"/mnt/fleet/{world.names[0]}"
    server = Vllm(folders={seen})
    world.release(0)

    assert ask(up(server, 'root = "/mnt/fleet"')).status_code == 200
    assert server.said == [("load", seen)]


def test_those_that_are_not_live_make_room_the_one_used_longest_ago_first(
    world: World, up: Callable[..., httpx.Client]
) -> None:
    stable, other, candidate = world.names[:3]
    server = Vllm(roots={"theirs": "/elsewhere/adapter"})
    world.release(0)
    gateway = up(server, "adapters = 2")

    for name in (other, stable, candidate):
        assert ask(gateway, name).headers[VERSION] == name

    assert server.said[2:] == [("unload", other), ("load", f"/checkpoints/{candidate}")]
    assert set(server.roots) == {"theirs", stable, candidate}
    assert ask(gateway, other).headers[VERSION] == other
    assert set(server.roots) == {"theirs", stable, other}, "the stable version is live, so the candidate went"


def test_adapters_of_a_gateway_before_this_one_make_room_too(world: World, up: Callable[..., httpx.Client]) -> None:
    old = {"babylon-agent-v0.0.1": "/checkpoints/old", "babylon-agent-v0.0.2": "/checkpoints/older"}
    server = Vllm(roots=dict(old))
    world.release(0)

    assert ask(up(server, "adapters = 1")).status_code == 200
    assert server.roots == {world.names[0]: f"/checkpoints/{world.names[0]}"}


def test_where_all_are_live_another_is_not_loaded(world: World, up: Callable[..., httpx.Client]) -> None:
    server = Vllm()
    world.release(0)
    gateway = up(server, "adapters = 1")
    assert ask(gateway).status_code == 200

    status, code, message = problem(ask(gateway, world.names[2]))
    assert (status, code) == (503, "engine_unavailable")
    assert "gpu: has 1 adapters, all of them live; raise adapters = 1 of gpu" in message
    assert set(server.roots) == {world.names[0]}


def test_full_weights_are_for_our_own_engine(world: World, up: Callable[..., httpx.Client]) -> None:
    server = Vllm()
    engine = world.engine()
    choose(world.names[0], "/checkpoints/full", "full")
    world.release(0)
    world.release(1, stage="canary", share=50)
    gateway = up(server)

    assert ask(gateway, world.names[0]).headers[VERSION] == world.names[0]
    assert (len(engine.asked), server.said) == (1, [])
    assert ask(gateway, world.names[1]).headers[VERSION] == world.names[1]
    assert (len(engine.asked), len(server.asked)) == (1, 1), "an upstream that serves versions is asked first"


@pytest.mark.parametrize("kind", [Vllm, Sglang])
def test_a_server_that_does_not_say_what_it_has_is_not_believed(
    world: World, up: Callable[..., httpx.Client], kind: type[Vllm]
) -> None:
    """What it has under the name may be another checkpoint, which nobody released."""
    name = world.names[0]
    server = kind(roots={name: "/checkpoints/last"}, ill=503)
    world.release(0)
    gateway = up(server)

    status, _, message = problem(ask(gateway, name))
    assert (status, server.asked, server.said) == (503, [], [])
    assert "when it was asked for its models" in message
    server.ill = None
    assert ask(gateway, name).headers[VERSION] == name
    assert server.said == [("unload", name), ("load", f"/checkpoints/{name}")]


@pytest.mark.parametrize("kind", [Vllm, Sglang])
def test_what_is_loaded_already_is_looked_at(world: World, up: Callable[..., httpx.Client], kind: type[Vllm]) -> None:
    """Between the look and the load another gateway loaded another checkpoint under the name."""
    name, other = world.names[0], "/checkpoints/last"
    server = kind()
    plain = server.load

    async def late(request: Request) -> JSONResponse:
        if not server.said:
            server.roots[name] = other
        return await plain(request)

    server.load = late  # type: ignore[method-assign]
    world.release(0)

    assert ask(up(server)).headers[VERSION] == name
    folder = f"/checkpoints/{name}"
    assert server.said == [("load", folder), ("unload", name), ("load", folder)]
    assert server.roots == {name: folder}


def test_one_that_cannot_be_unloaded_makes_no_room(world: World, up: Callable[..., httpx.Client]) -> None:
    server = Vllm(roots={"old": "/checkpoints/old"})

    async def refuse(_: Request) -> JSONResponse:
        return JSONResponse({"error": {"message": "it is in use"}}, 500)

    server.unload = refuse  # type: ignore[method-assign]
    gateway = up(server, "adapters = 1")

    assert "gpu: cannot unload old (500)" in problem(ask(gateway, world.names[0]))[2]
    assert set(server.roots) == {"old"}


def test_a_base_model_below_the_folder_of_artifacts_is_no_adapter(
    world: World, up: Callable[..., httpx.Client]
) -> None:
    server = Vllm(base="/checkpoints/full")

    assert ask(up(server, 'adapters = 1\nbases = ["/base"]'), world.names[0]).status_code == 200
    assert server.said == [("load", f"/checkpoints/{world.names[0]}")]


def test_where_it_cannot_load_our_engine_answers(world: World, up: Callable[..., httpx.Client]) -> None:
    server = Vllm()
    engine = world.engine()
    world.release(0)
    gateway = up(server)
    server.folders.clear()

    assert ask(gateway).headers[VERSION] == world.names[0]
    assert (len(engine.asked), len(server.asked)) == (1, 0)


def test_what_is_said_to_a_server_and_recorded_of_its_tokens(world: World, up: Callable[..., httpx.Client]) -> None:
    server = Vllm()
    world.release(0)

    assert ask(up(server)).json()["choices"][0]["token_ids"] == [1, 2]
    asked = {"messages": [USER], "temperature": 0.7, "logprobs": True, "return_token_ids": True}
    assert server.asked == [asked | {"model": world.names[0]}]
    (call,) = world.calls()
    assert (call.model, call.prompt_token_ids, call.token_ids) == (world.names[0], [5, 6, 7], [1, 2])


def test_sglang_calls_the_adapter_by_its_path_and_tells_no_tokens_of_a_stream(
    world: World, up: Callable[..., httpx.Client]
) -> None:
    server = Sglang()
    world.release(0)
    gateway = up(server)

    assert ask(gateway).headers[VERSION] == world.names[0]
    whole = {"messages": [USER], "temperature": 0.7, "logprobs": True, "return_token_ids": True}
    assert server.asked == [whole | {"model": BASE_MODEL, "lora_path": world.names[0]}]
    (call,) = world.calls()
    assert (call.model, call.prompt_token_ids, call.token_ids) == (world.names[0], [5, 6, 7], [1, 2])
    assert call.logprobs == [-0.25, -1.5]

    server.has_tokens = False
    answer, events = stream(gateway, return_token_ids=True)
    assert (answer.headers[VERSION], bool(events)) == (world.names[0], True)
    assert "return_token_ids" not in server.asked[1]


def test_a_request_that_sglang_refuses_is_the_requests_own(world: World, up: Callable[..., httpx.Client]) -> None:
    server = Sglang()
    world.release(0)
    gateway = up(server)
    assert ask(gateway).status_code == 200

    server.refusal = 400
    assert ask(gateway).status_code == 400
    assert len(server.said) == 1, "the adapter is there, so it is not loaded again"


@pytest.mark.parametrize("kind", [Vllm, Sglang])
def test_a_wrong_key_names_its_variable(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Vllm]
) -> None:
    server = kind(key="right", folders={f"/checkpoints/{name}" for name in world.names})
    world.release(0)
    monkeypatch.setenv("GPU_KEY", "hush")
    locked = f'{table(world, server)}\nkey_env = "GPU_KEY"'
    gateway = world.gateway(**configured(tmp_path, gpu=locked))

    status, _, message = problem(ask(gateway, world.names[0]))
    assert status == 503
    assert "gpu: answered 401: GPU_KEY is not the engine's" in message
    assert gateway.get("/ready").json()["upstreams"] == {"gpu": "refuses the key: check GPU_KEY"}
    monkeypatch.setenv("GPU_KEY", "right")
    assert ask(world.gateway(**configured(tmp_path, gpu=locked))).status_code == 200


def test_each_version_has_its_breaker(
    world: World, up: Callable[..., httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Vllm()
    gateway = up(server, RLFLEET_BREAKER_SECONDS="600")
    server.folders.discard(f"/checkpoints/{world.names[0]}")
    for _ in range(5):
        assert ask(gateway, world.names[0]).status_code == 503
    loads = len(server.said)

    assert "failed repeatedly" in problem(ask(gateway, world.names[0]))[2]
    assert len(server.said) == loads
    assert ask(gateway, world.names[1]).status_code == 200
    assert set(gateway.get("/health").json()["breakers"]) == {world.names[0]}
    server.folders.add(f"/checkpoints/{world.names[0]}")
    pass_seconds(monkeypatch, 600)
    assert ask(gateway, world.names[0]).status_code == 200


def test_it_answers_as_the_base_model_too(world: World, up: Callable[..., httpx.Client]) -> None:
    server = Vllm()
    gateway = up(server)

    answer = ask(gateway)

    assert (answer.headers[VERSION], server.asked[0]["model"]) == ("base", BASE_MODEL)
    assert json.loads(answer.content)["model"] == BASE_MODEL
    wait_until(lambda: world.count() == 1)
    assert world.calls()[0].model == f"base/{BASE_MODEL}"
