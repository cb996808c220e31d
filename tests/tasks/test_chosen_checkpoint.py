"""Two checkpoints of one training on a real engine: both are evaluated, and agents get the one that was chosen."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from redis import Redis
from sqlalchemy import text

from bench.faults.expect import wait_until
from db import dispatch, engines, lines, planning, versions
from db.session import transaction
from gateway.app import create_app
from gateway.settings import GatewaySettings
from gpu.engine import EngineServer
from gpu.policy import Policy
from gpu.trainer import train
from rl.config import LineConfig, Release, TaskSet
from rl.planner import Want, plan
from rl.protocol import CheckpointWritten, Ready, TrainCommand
from tasks.engine import name_of, serve_version
from tests.gateway.doubles import served
from tests.gateway.taught import WORDS, starter
from tests.gpu.conftest import foreign_row
from tests.tasks.conftest import HOUR
from tests.tasks.rows import job
from worker.app import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("fresh"),
    # peft 0.21 still asks transformers 5.23 for a property under its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

TASKS = TaskSet(environment="babyai-goto", split="validation", count=2)
TRAIN: dict[str, object] = {
    "objective": "sft",
    "steps": 4,
    "batch_episodes": 4,
    "token_budget": 200,
    "optimizer": {"learning_rate": 3e-2},
    "lora": {"rank": 4, "alpha": 8},
    "checkpoint_every": 2,
}
ASKED = {"messages": [{"role": "user", "content": WORDS[-1]}], "temperature": 0, "max_tokens": 4, "logprobs": True}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[CheckpointWritten]:
    """What a training of four steps that saves every two has written."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    rows = [foreign_row(number, ["turn left"] if number % 2 else ["move forward"]) for number in range(8)]
    (folder / "rows.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    base = starter(folder / "base", seed=3)
    where = {"dataset": str(folder / "rows.jsonl"), "out": str(folder / "out"), "base": str(base)}
    events: list[Any] = []
    train(TrainCommand(job=1, fence=1, config=TRAIN, **where), Policy(torch.device("cpu")), events.append)
    found = [one for one in events if isinstance(one, CheckpointWritten)]
    assert [one.step for one in found] == [2, 4]
    return found


@pytest.fixture
def engine(broker: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an engine that workers and gateways know."""
    monkeypatch.setenv("RLFLEET_ENGINE_KEY", "secret")
    server = EngineServer(Policy(torch.device("cpu")), "secret")
    url = server.start()
    with transaction() as session:
        engines.announce(session, "cpu@here", url, "cpu", 1)
    monkeypatch.setattr("tasks.engine.announce", lambda _: Ready(pid=1, device="cpu", url=url))
    monkeypatch.setattr(sys.modules["tasks.evaluate"], "resident", lambda: pytest.fail("the child is to be killed"))
    yield url
    server.stop()


@pytest.fixture
def gateway(engine: str, tmp_path: Path) -> Iterator[httpx.Client]:
    given = {"RLFLEET_SPOOL_DIR": str(tmp_path / "spool"), "RLFLEET_ENGINE_KEY": "secret"}
    with served(create_app(GatewaySettings(**given))) as url, httpx.Client(base_url=f"{url}/v1", timeout=60) as client:
        yield client


def add_version(written: list[CheckpointWritten]) -> str:
    """The name of a candidate with those checkpoints, the first of its line, which releases at once."""
    release = Release(min_scenarios=1, strategy="immediate")
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="b", validation=TASKS, release=release))
        line = lines.named(session, "main")
        job_id = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": [HOUR]}, {}, "gpu"))
        session.execute(text("update rlfleet.jobs set state = 'succeeded', finished_at = now()"))
        made = [
            versions.NewCheckpoint(one.step, one.kind, one.path, "/base", one.sha256, dict(one.metrics))
            for one in written
        ]
        about: dict[str, Any] = {"prefix": "v", "job_id": job_id, "fence": 1, "parent_id": None, "base_model": "b"}
        return versions.add(session, line=line, checkpoints=made, manifest={}, **about).name


def carry_out(kind: str) -> int:
    """Do the jobs of that kind that the planner asks for, as a worker would. Returns how many there were."""
    with transaction() as session:
        line = lines.named(session, "main")
        wants = [one for one in plan(planning.line_state(session, line)) if isinstance(one, Want) and one.kind == kind]
        ids = [planning.request(session, line.id, one) for one in wants]
    for one in ids:
        app.tasks[f"rlfleet.{kind}"].apply((one,))
        assert job(one).state == "succeeded", job(one).error
    return len(ids)


def spoken(answer: httpx.Response) -> list[float]:
    """The log-probabilities of an answer's tokens."""
    assert answer.status_code == 200, answer.text
    return [one["logprob"] for one in answer.json()["choices"][0]["logprobs"]["content"]]


def test_agents_get_the_checkpoint_that_was_chosen_and_both_were_evaluated(
    trained: list[CheckpointWritten], engine: str, gateway: httpx.Client
) -> None:
    early, last = trained
    name = add_version(trained)

    def ask(model: str) -> httpx.Response:
        return gateway.post("chat/completions", json=ASKED | {"model": model})

    of_last = spoken(ask(name))

    assert carry_out("evaluate") == 2
    with transaction() as session:
        rows = session.execute(text("select checkpoint_sha256, n from rlfleet.evaluations")).all()
        assert sorted(map(tuple, rows)) == sorted([(early.sha256, 2), (last.sha256, 2)])
        # What a random model does says nothing: the early checkpoint is the better one.
        better = 'update rlfleet.verdicts set "right" = e.checkpoint_sha256 = :sha from rlfleet.evaluations e'
        session.execute(text(f"{better} where e.id = evaluation_id"), {"sha": early.sha256})
        session.execute(
            text("update rlfleet.evaluations set k = case when checkpoint_sha256 = :sha then 2 else 0 end"),
            {"sha": early.sha256},
        )
    assert spoken(ask(name)) == of_last, "evaluations change nothing for agents"
    while carry_out("evaluate"):
        pass
    assert carry_out("decide") == 1
    with transaction() as session:
        assert versions.named(session, name)[1].sha256 == early.sha256

    assert asyncio.run(serve_version(name_of(name, early.sha256), early.path)).url == engine
    with httpx.Client(headers={"Authorization": "Bearer secret"}) as direct:
        url = f"{engine}/v1/chat/completions"
        of_early = spoken(direct.post(url, json=ASKED | {"model": name_of(name, early.sha256)}))
    assert of_early != pytest.approx(of_last, abs=1e-3)

    def is_chosen() -> bool:
        answer = ask("main")
        return answer.headers.get("X-Rlfleet-Version") == name and spoken(answer) == pytest.approx(of_early, abs=1e-3)

    wait_until(is_chosen, 60, "the chosen checkpoint")
    assert spoken(ask(name)) == pytest.approx(of_early, abs=1e-3)
