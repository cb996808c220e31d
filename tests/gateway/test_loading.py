"""What an engine has under a version's name is the checkpoint that was decided on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from db.session import transaction
from tests.gateway.conftest import World
from tests.gateway.test_completions import VERSION, ask


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


def test_an_engine_that_says_where_it_has_a_version_from_is_believed(world: World) -> None:
    uri = f"/checkpoints/{world.names[0]}"
    engine = world.engine(versions={world.names[0]}, roots={world.names[0]: uri})
    world.release(0)
    assert ask(world.gateway()).status_code == 200
    assert engine.loads == []
