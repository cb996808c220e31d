"""Several upstreams over real HTTP: who is asked, in which order, how often, and what is told of them."""

from __future__ import annotations

import logging
from pathlib import Path

import openai
import pytest

from db.session import transaction
from gateway import probing
from tests.conftest_database import add_line
from tests.gateway.adapter_servers import BASE_MODEL, Vllm
from tests.gateway.away import out_of_reach
from tests.gateway.conftest import World
from tests.gateway.doubles import FakeEngine, pass_seconds
from tests.gateway.test_adapters import choose, configured
from tests.gateway.test_completions import USER, VERSION, ask, problem
from tests.gateway.test_streamed import REASON, failures, said, stream
from tests.recorder.doubles import wait_until

REMOTE = "wandb-artifact:///team/project/agent:step3"
NOWHERE = "http://127.0.0.1:9/v1"


def openai_table(world: World, server: FakeEngine, more: str = "") -> str:
    return f'kind = "openai"\nurl = "{world.serve(server.app())}/v1"\n{more}'


def test_base_models_are_asked_in_their_order_until_one_answers(world: World, tmp_path: Path) -> None:
    first, second, third = FakeEngine(refusal=500), FakeEngine(), FakeEngine()
    variables = configured(
        tmp_path,
        away=f'kind = "openai"\nurl = "{NOWHERE}"',
        first=openai_table(world, first),
        second=openai_table(world, second, 'model = "second/model"'),
        third=openai_table(world, third),
    )
    gateway = world.gateway(**variables)

    answer = ask(gateway)

    assert (answer.status_code, answer.headers[VERSION]) == (200, "base")
    assert (second.asked[0]["model"], len(third.asked)) == ("second/model", 0)
    (call,) = world.calls()
    assert (call.model, call.has_tokens) == ("base/second/model", False)
    second.refusal = 429
    assert ask(gateway).status_code == 200
    assert len(third.asked) == 1
    second.refusal = None
    assert said(stream(gateway)[1]).startswith("go to")
    assert len(second.asked) == 2


def test_the_one_of_the_variable_comes_first(world: World, tmp_path: Path) -> None:
    ours, others = FakeEngine(), FakeEngine()
    variables = configured(tmp_path, others=openai_table(world, others))
    gateway = world.gateway(UPSTREAM_BASE_URL=world.serve(ours.app()) + "/v1", **variables)

    assert ask(gateway).status_code == 200
    assert (len(ours.asked), len(others.asked)) == (1, 0)
    ours.is_draining = True
    assert ask(gateway).status_code == 200
    assert (len(ours.asked), len(others.asked)) == (1, 1)


def test_where_none_answers_each_is_told_of(world: World, tmp_path: Path) -> None:
    refusing = FakeEngine(key="right")
    variables = configured(tmp_path, away=f'kind = "openai"\nurl = "{NOWHERE}"', b=openai_table(world, refusing))
    world.release(0)
    gateway = world.gateway(**variables)

    assert problem(ask(gateway)) == (
        503,
        "upstream_unavailable",
        "the upstream away did not answer (ConnectError); the upstream b refused key_env of b (unset)",
    )
    wait_until(lambda: len(failures()) == 1, 60)


def test_each_has_its_breaker(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, well = FakeEngine(refusal=500), FakeEngine()
    tables = {"failing": openai_table(world, failing), "well": openai_table(world, well)}
    gateway = world.gateway(**configured(tmp_path, **tables), RLFLEET_BREAKER_SECONDS="600")
    for _ in range(5):
        assert ask(gateway).status_code == 200
    failing.refusal = None

    assert ask(gateway).status_code == 200
    assert (len(failing.asked), len(well.asked)) == (0, 6)
    assert set(gateway.get("/health").json()["breakers"]["base"]) == {"failing"}
    pass_seconds(monkeypatch, 600)
    assert ask(gateway).status_code == 200
    assert (len(failing.asked), len(well.asked)) == (1, 6)


def test_a_version_whose_weights_lie_with_wandb_is_asked_there_by_its_artifact(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wandb, engine = FakeEngine(key="key"), world.engine()
    choose(world.names[0], REMOTE, "remote")
    world.release(0)
    variables = configured(tmp_path, paid=f'kind = "wandb"\nurl = "{world.serve(wandb.app())}/v1"')
    gateway = world.gateway(**variables, WANDB_API_KEY="key")

    answer = ask(gateway)

    assert (answer.headers[VERSION], answer.headers[REASON]) == (world.names[0], "stable")
    asked = {"messages": [USER], "temperature": 0.7, "logprobs": True, "return_token_ids": True}
    assert wandb.asked == [asked | {"model": REMOTE}]
    assert (engine.asked, engine.loads) == ([], []), "no engine of ours can load it"
    (call,) = world.calls()
    assert (call.model, call.token_ids, call.logprobs) == (world.names[0], [1, 2], [-0.25, -1.5])

    wandb.has_tokens = False
    streamed, events = stream(gateway, call="c2")
    assert (streamed.headers[VERSION], said(events)) == (world.names[0], "go to the red ball 2")
    assert [one.has_tokens for one in world.calls()] == [True, False]
    assert f"{world.names[0]} answers without tokens" in caplog.text

    other = ask(gateway, world.names[1])
    assert (other.headers[VERSION], len(engine.asked)) == (world.names[1], 1)


def test_without_one_of_that_kind_it_is_said_what_is_missing(world: World, tmp_path: Path) -> None:
    engine = world.engine()
    choose(world.names[0], REMOTE, "remote")
    world.release(0)
    gateway = world.gateway(**configured(tmp_path, other=f'kind = "openai"\nurl = "{NOWHERE}"'))

    assert "no upstream of kind wandb serves them" in problem(ask(gateway, world.names[0]))[2]
    assert engine.asked == []
    line = gateway.get("/health").json()["lines"]["main"]
    assert line["why"].startswith(f"nobody answers for {world.names[0]} (no upstream serves it)")


def test_a_wandb_that_fails_a_version_leaves_the_base_model(world: World, tmp_path: Path) -> None:
    wandb, base = FakeEngine(refusal=503), FakeEngine()
    choose(world.names[0], REMOTE, "remote")
    world.release(0)
    tables = {
        "paid": f'kind = "wandb"\nurl = "{world.serve(wandb.app())}/v1"',
        "router": openai_table(world, base),
    }
    gateway = world.gateway(**configured(tmp_path, **tables), WANDB_API_KEY="key")

    assert ask(gateway).headers[VERSION] == "base"
    wait_until(lambda: [one[2:] for one in failures()] == [(world.names[0], "paid: answered 503")], 60)


def test_health_and_ready_list_each_and_ask_no_completion(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "SECONDS", 600.0)
    well, locked, pipe = FakeEngine(), FakeEngine(key="right"), FakeEngine(key="hush-pipe")
    tables = {
        "well": openai_table(world, well),
        "locked": openai_table(world, locked, 'key_env = "LOCKED_KEY"'),
        "pipe": f'kind = "openpipe"\nurl = "{world.serve(pipe.app())}/v1"\nmodel = "openpipe:mine"',
        "away": f'kind = "vllm"\nurl = "{NOWHERE}"\nserves = ["base"]',
    }
    monkeypatch.setenv("LOCKED_KEY", "hush-locked")
    world.engine()
    world.release(0)
    gateway = world.gateway(**configured(tmp_path, **tables), OPENPIPE_API_KEY="hush-pipe")

    health, ready = gateway.get("/health"), gateway.get("/ready")
    assert (health.status_code, ready.status_code) == (200, 200)
    expected = {
        "well": "ok",
        "locked": "refuses the key: check LOCKED_KEY",
        "pipe": "ok",
        "away": "does not answer",
    }
    assert health.json()["upstreams"] == ready.json()["upstreams"] == expected
    assert health.json()["engines"] == {"cpu@test": "ok"}
    for _ in range(5):
        gateway.get("/ready")
    assert well.probed == pipe.probed == 1
    assert (well.asked, pipe.asked) == ([], [])


def test_upstreams_are_listed_while_the_database_is_away(
    world: World, tmp_path: Path, postgres_url: str, database_url: str
) -> None:
    away = f'kind = "openai"\nurl = "{NOWHERE}"'
    gateway = world.gateway(**configured(tmp_path, well=openai_table(world, FakeEngine()), away=away))
    expected = {"well": "ok", "away": "does not answer"}
    assert gateway.get("/health").json()["upstreams"] == expected

    with out_of_reach(postgres_url, database_url):
        health = gateway.get("/health")
        assert (health.status_code, health.json()["database"]) == (503, "does not answer")
        assert health.json()["upstreams"] == expected


def test_a_server_that_serves_versions_is_an_engine_to_health(world: World, tmp_path: Path) -> None:
    server = Vllm()
    world.release(0)
    gateway = world.gateway(**configured(tmp_path, gpu=f'kind = "vllm"\nurl = "{world.serve(server.app())}/v1"'))

    health = gateway.get("/health")
    assert (health.status_code, health.json()["engine"], health.json()["engines"]) == (200, "ok", {})
    assert health.json()["lines"]["main"] == {"status": "ok", "why": ""}
    server.is_draining = True
    wait_until(lambda: gateway.get("/health").json()["engine"] == "gpu does not answer", 60)


def test_keys_are_in_no_log_no_page_and_no_answer(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("VLLM_KEY", "OTHER_KEY"):
        monkeypatch.setenv(name, f"hush-{name.lower()}")
    locked, server = FakeEngine(key="right"), Vllm(key="hush-vllm_key", folders={f"/checkpoints/{world.names[0]}"})
    tables = {
        "gpu": f'kind = "vllm"\nurl = "{world.serve(server.app())}/v1"\nkey_env = "VLLM_KEY"',
        "locked": openai_table(world, locked, 'key_env = "OTHER_KEY"'),
        "pipe": f'kind = "openpipe"\nurl = "{NOWHERE}"',
    }
    world.release(0)
    gateway = world.gateway(**configured(tmp_path, **tables), OPENPIPE_API_KEY="hush-pipe")

    told = [ask(gateway), gateway.get("/health"), gateway.get("/ready")]
    server.key = "changed"
    told += [ask(gateway), ask(gateway, world.names[0]), gateway.get("/health")]

    assert [answer.status_code for answer in told[:3]] == [200] * 3
    assert "OTHER_KEY" in told[3].text
    assert "OPENPIPE_API_KEY" not in told[0].text
    everything = caplog.text + "".join(answer.text + str(answer.headers) for answer in told)
    assert "hush" not in everything


def test_the_official_client_is_answered_by_version_and_base(world: World, tmp_path: Path) -> None:
    server = Vllm(folders={f"/checkpoints/{name}" for name in world.names})
    gateway = world.gateway(**configured(tmp_path, gpu=f'kind = "vllm"\nurl = "{world.serve(server.app())}/v1"'))
    wanted = {"base_url": f"{gateway.base_url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60}
    with openai.OpenAI(**wanted) as client:  # type: ignore[arg-type]
        said_by_base = client.chat.completions.create(model="main", messages=[USER])  # type: ignore[list-item]
        assert (said_by_base.model, said_by_base.choices[0].message.content) == (BASE_MODEL, "go to the red ball 1")
        by_version = client.chat.completions.with_raw_response.create(
            model=world.names[1],
            messages=[USER],  # type: ignore[list-item]
            logprobs=True,
        )
        assert by_version.headers[VERSION] == world.names[1]
        assert by_version.parse().choices[0].message.content == "go to the red ball 2"
        chunks = client.chat.completions.create(
            model=world.names[1],
            messages=[USER],  # type: ignore[list-item]
            stream=True,
        )
        words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert words == "go to the red ball 3"
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="no-such-version", messages=[USER])  # type: ignore[list-item]


def test_a_base_model_that_a_server_does_not_know_keeps_no_other_lines_from_it(world: World, tmp_path: Path) -> None:
    server = Vllm()
    with transaction() as session:
        add_line(session, "other", "other/base")
    table = f'kind = "vllm"\nurl = "{world.serve(server.app())}/v1"'
    given = {"USE_RL_MODEL": "false", "RLFLEET_BREAKER_SECONDS": "600"}
    gateway = world.gateway(**configured(tmp_path, gpu=table), **given)

    for _ in range(5):
        assert gateway.post("/v1/chat/completions", json={"model": "other", "messages": [USER]}).status_code == 404

    assert ask(gateway).headers[VERSION] == "base"
    assert gateway.get("/health").json()["breakers"] == {}
    server.refusal = 500
    for _ in range(5):
        assert ask(gateway).status_code == 500
    assert "failed repeatedly" in problem(ask(gateway))[2]
