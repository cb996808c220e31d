"""What an engine has under a version's name is the checkpoint that was decided on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import JSONResponse

from db.session import transaction
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine
from tests.gateway.test_completions import VERSION, ask, problem


def test_an_engine_that_has_another_folder_under_the_name_loads_the_one_that_was_decided_on(world: World) -> None:
    name = world.names[0]
    uri = f"/checkpoints/{name}"
    engine = world.engine(versions={name}, loadable={uri, "/chosen"}, roots={name: "/checkpoints/last"})
    world.release(0)
    gateway = world.gateway()

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: ask(gateway), range(8)))

    assert [response.headers.get(VERSION) for response in responses] == [name] * 8
    assert engine.loads == [{"lora_name": name, "lora_path": uri}]

    engine.roots[name] = uri
    with transaction() as session:
        session.execute(text("update rlfleet.checkpoints set uri = '/chosen' where uri = :uri"), {"uri": uri})
    deadline = time.monotonic() + 60
    while len(engine.loads) < 2:
        assert ask(gateway).status_code == 200
        assert time.monotonic() < deadline
    assert engine.loads[1:] == [{"lora_name": name, "lora_path": "/chosen"}]


def test_an_engine_that_does_not_say_what_it_has_is_not_asked(world: World) -> None:
    name = world.names[0]
    uri = f"/checkpoints/{name}"
    engine = world.engine(versions={name}, loadable={uri}, roots={name: "/checkpoints/last"})
    plain, ill = engine.models, [503]

    async def models(request: Request) -> JSONResponse:
        return JSONResponse({}, ill[0]) if ill else await plain(request)

    engine.models = models  # type: ignore[method-assign]
    world.announce("cpu@test", world.serve(engine.app()))
    world.release(0)
    gateway = world.gateway()

    assert "answered 503 when it was asked for its models" in problem(ask(gateway))[2]
    assert (engine.asked, engine.loads) == ([], [])
    ill.clear()
    assert ask(gateway).headers[VERSION] == name
    assert engine.loads == [{"lora_name": name, "lora_path": uri}]


def test_an_engine_that_says_that_it_has_the_version_already_is_asked_from_where(world: World) -> None:
    """It has no page that says what it has, so what it has is put right."""
    name = world.names[0]
    engine, said = FakeEngine(versions={"another"}), []

    async def models(_: Request) -> JSONResponse:
        return JSONResponse({}, 404)

    async def load(request: Request) -> JSONResponse:
        said.append("load")
        if "unload" not in said:
            return JSONResponse({"error": {"message": f"{name} has already been loaded"}}, 400)
        engine.versions.add(name)
        return JSONResponse({"status": "ok"})

    async def unload(_: Request) -> JSONResponse:
        said.append("unload")
        return JSONResponse({"status": "ok"})

    engine.models, engine.load, engine.unload = models, load, unload  # type: ignore[method-assign]
    world.announce("cpu@test", world.serve(engine.app()))
    world.release(0)

    assert ask(world.gateway()).headers[VERSION] == name
    assert said == ["load", "unload", "load"]


def test_an_engine_that_says_where_it_has_a_version_from_is_believed(world: World) -> None:
    uri = f"/checkpoints/{world.names[0]}"
    engine = world.engine(versions={world.names[0]}, roots={world.names[0]: uri})
    world.release(0)
    assert ask(world.gateway()).status_code == 200
    assert engine.loads == []


def test_an_engine_whose_host_has_its_artifacts_elsewhere_has_the_same_checkpoint(world: World) -> None:
    name, place = world.names[0], "jobs/7/fence-2/step-000004"
    engine = world.engine(versions={name}, roots={name: f"/of/its/host/{place}"}, loadable={f"/of/the/rows/{place}"})
    with transaction() as session:
        known = {"uri": f"/of/the/rows/{place}", "old": f"/checkpoints/{name}"}
        session.execute(text("update rlfleet.checkpoints set uri = :uri where uri = :old"), known)
    world.release(0)
    assert ask(world.gateway()).status_code == 200
    assert engine.loads == []
