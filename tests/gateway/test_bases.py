"""An adapter is loaded only where its own base model is."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from db.session import transaction
from gateway import probing
from gateway.bases import lack_of_base
from tests.gateway.adapter_servers import BASE, BASE_MODEL, Sglang, Vllm
from tests.gateway.conftest import World
from tests.gateway.test_adapters import configured, table
from tests.gateway.test_completions import VERSION, ask, problem
from tests.recorder.doubles import wait_until

OTHER = "/other/base"
WHY = f"gpu has the base model {OTHER} or {BASE_MODEL}, and the version is for {BASE}"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "SECONDS", 0.0)


def up(world: World, folder: Path, server: Vllm, more: str = "") -> httpx.Client:
    """A gateway with that server, which has the folders of the world's versions."""
    server.folders |= {f"/checkpoints/{name}" for name in world.names}
    return world.gateway(**configured(folder, gpu=f"{table(world, server)}\n{more}"))


def test_an_adapter_for_another_base_goes_to_our_engine(world: World, tmp_path: Path) -> None:
    server, engine = Vllm(base=OTHER), world.engine()
    world.release(0)
    gateway = up(world, tmp_path, server, "per_minute = 5")

    for number in range(8):
        assert ask(gateway, Call=f"c{number}").headers[VERSION] == world.names[0]

    assert (server.said, server.asked, len(engine.asked)) == ([], [], 8)
    health = gateway.get("/health").json()
    assert (health["upstreams"], health["breakers"]) == ({"gpu": "ok"}, {}), "it has not failed, nor been asked"


def test_where_nobody_else_is_there_callers_and_health_are_told(world: World, tmp_path: Path) -> None:
    world.release(0)
    gateway = up(world, tmp_path, Vllm(base=OTHER), 'serves = ["versions"]')

    assert gateway.get("/health").json()["lines"]["main"]["status"] == "unavailable"
    assert WHY in gateway.get("/ready").json()["why"]
    for _ in range(2):
        status, _, message = problem(ask(gateway, world.names[0]))
        assert (status, WHY.replace("gpu ", "gpu: ") in message) == (503, True)


def test_sglang_that_calls_its_base_otherwise_needs_to_be_told_of(world: World, tmp_path: Path) -> None:
    server = Sglang()
    url = world.serve(server.app())
    server.folders |= {f"/checkpoints/{name}" for name in world.names}

    def with_bases(more: str) -> httpx.Client:
        return world.gateway(**configured(tmp_path, gpu=f'kind = "sglang"\nurl = "{url}/v1"\n{more}'))

    assert "bases in RLFLEET_UPSTREAMS may name that too" in problem(ask(with_bases(""), world.names[0]))[2]
    assert ask(with_bases(f'bases = ["{OTHER}", "{BASE}"]'), world.names[0]).headers[VERSION] == world.names[0]
    answer = ask(with_bases(f'bases = ["{OTHER}"]'), world.names[1])
    assert (answer.status_code, server.said) == (503, [("load", f"/checkpoints/{world.names[0]}")])


def test_a_server_that_is_started_again_is_looked_at_again(world: World, tmp_path: Path) -> None:
    server, name = Vllm(base=OTHER), world.names[0]
    gateway = up(world, tmp_path, server)
    assert ask(gateway, name).status_code == 503

    server.base = BASE
    wait_until(lambda: ask(gateway, name).status_code == 200, PATIENCE)
    loads = len(server.said)
    server.base = OTHER
    server.roots.clear()
    assert ask(gateway, name).status_code == 503
    assert (len(server.said), server.roots) == (loads, {}), "it is not loaded there"


def test_an_adapter_may_be_for_a_full_checkpoint_of_ours(world: World, tmp_path: Path) -> None:
    place = "jobs/7/fence-2/step-000004"
    with transaction() as session:
        session.execute(text("update rlfleet.checkpoints set base_uri = :uri"), {"uri": f"/of/the/rows/{place}"})
    server = Vllm(base=f"/of/its/host/{place}")

    assert ask(up(world, tmp_path, server), world.names[0]).headers[VERSION] == world.names[0]
    assert ask(up(world, tmp_path, Vllm()), world.names[0]).status_code == 503, "it has the line's base model"


def test_a_pinned_version_has_its_base_too(world: World, tmp_path: Path) -> None:
    server, engine = Vllm(base=OTHER), world.engine()
    server.folders |= {f"/checkpoints/{name}" for name in world.names}
    gateway = world.gateway(**configured(tmp_path, gpu=table(world, server)), RL_MODEL_VERSION=world.names[1])
    assert ask(gateway).headers[VERSION] == world.names[1]
    assert (server.said, len(engine.asked)) == ([], 1)
    server.base = BASE
    wait_until(lambda: ask(gateway).status_code == 200 and bool(server.asked), PATIENCE)


def test_nobody_knows_or_one_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert lack_of_base(None, "/base") == ""
    assert lack_of_base(["Qwen/Qwen3-0.6B"], "Qwen/Qwen3-0.6B") == ""
    assert lack_of_base([str(tmp_path / "link")], str(tmp_path)) == ""
    assert lack_of_base(["a"], "b").startswith("has the base model a, and the version is for b;")
    assert lack_of_base([], "b").startswith("does not say which base model it has, and the version is for b;")
    assert lack_of_base(["a"], "").startswith("has the base model a, and the version is for an unknown one;")
