"""A line whose versions lie with a stand-in of ART's service, rows of what they said, and workers that train there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import environments
from db import calls, dispatch, lines, trajectories, versions, windows
from db.calls import NewCall
from db.session import transaction
from rl.config import GrpoTrain, LineConfig, Lora, Optimizer, Release, TaskSet
from rl.records import Call, Message, ScenarioRef, Trajectory
from rl.remote import Artifact, artifact_of, sha256_of
from rl.scoring import by_reward
from rl.windows import parse
from tests.art_stand_in import BASE, ENTITY, KEY, PROJECT, Service, serving
from tests.conftest_database import released
from tests.tasks.conftest import HOUR
from tests.tasks.real_worker import worker
from tests.tasks.rows import EAGER

NAME = "babylon-agent"
VALIDATION = TaskSet(environment="sat-small", split="validation", count=4)
TRAIN = GrpoTrain(optimizer=Optimizer(learning_rate=1e-5), lora=Lora(), mini_batches=1)
QUEUES = ("collect", "score", "maint", "gpu")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    """The stand-in, and this process as a GPU worker's that trains with it."""
    from backends.settings import settings

    with serving() as made:
        monkeypatch.setenv("ART_BASE_URL", made.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("TRAIN_BACKEND", "art-serverless")
        monkeypatch.setenv("RLFLEET_ARTIFACTS", str(tmp_path / "artifacts"))
        settings.cache_clear()
        yield made
        settings.cache_clear()


def add_line(**fields: Any) -> None:
    """The line ``main``, which trains there when somebody asks and is evaluated on small formulas."""
    release = Release(min_probability=0.7, margin=0, min_scenarios=1, strategy="immediate")
    config = LineConfig(
        base_model=BASE, automatic=False, train=TRAIN, validation=VALIDATION, release=release, readiness=EAGER, **fields
    )
    with transaction() as session:
        lines.put(session, "main", config)


def add_version(service: Service) -> str:
    """The line's first version, released, as step 0 of a model that the service knows. Its name."""
    service.model({"entity": ENTITY, "project": PROJECT, "name": NAME, "base_model": BASE})
    uri = Artifact(ENTITY, PROJECT, NAME, 0).uri
    with transaction() as session:
        line = lines.named(session, "main")
        job_id = dispatch.request(session, dispatch.Spec("train", line.id, {"windows": [], "adopt": NAME}, {}, "gpu"))
        session.execute(text("update rlfleet.jobs set state = 'succeeded', finished_at = now()"))
        made = [versions.NewCheckpoint(0, "remote", uri, BASE, sha256_of(uri), {})]
        about: dict[str, Any] = {"prefix": NAME, "job_id": job_id, "fence": 1, "parent_id": None, "base_model": BASE}
        version = versions.add(session, line=line, checkpoints=made, manifest={}, **about)
        versions.set_state(session, [version.id], "ready", "set by a test")
        released(session, line.id, version.id)
        return version.name


def add_played(version: str, state: str = "collected", hour: str = HOUR) -> None:
    """A window of four episodes on one formula, each a call that ``version`` answered with its tokens."""
    moment = parse(hour).hour
    assert moment is not None
    played, first = [], "" if hour == HOUR else f"{hour}-"
    for place in range(4):
        call = Call(
            call_id=f"{first}t{place}/0",
            turn=0,
            model=version,
            messages=[Message(role="user", content="x1 or not x2")],
            response=Message(role="assistant", content="x1=True" if place % 2 else "?"),
            prompt_token_ids=[1, 2, 3],
            token_ids=[4, 5 + place],
            logprobs=[-0.5, -0.25],
            temperature=1.0,
            finish_reason="stop",
        )
        about = {"trajectory_id": f"{first}t{place}", "scenario_id": "s", "agent_id": f"agent-{place}"}
        moments = {"started_at": moment, "ended_at": moment}
        played.append(Trajectory(reward=float(place % 2), calls=[call], **about, **moments))
    with transaction() as session:
        line = lines.named(session, "main")
        window = windows.ensure(session, line.id, parse(hour), state=state)
        trajectories.insert_trajectories(session, line.id, window, "a test", played)
        spoken = [
            NewCall.of(call, trajectory_id=one.trajectory_id, line="main", agent_id=one.agent_id)
            for one in played
            for call in one.calls
        ]
        calls.insert(session, spoken)
        if state == "scored":
            trajectories.insert_scores(session, [by_reward(one.trajectory_id, one.reward) for one in played])


def solver() -> Any:
    """What versions after the first say: the formula's solution. The first one does not know."""
    played = environments.load(VALIDATION.environment)
    solutions = {}
    for seed in range(VALIDATION.count):
        episode = played.open(ScenarioRef(environment=VALIDATION.environment, split=VALIDATION.split, seed=seed))
        solutions[episode.messages[-1].content] = episode.oracle()

    def says(model: str, body: dict[str, Any]) -> str:
        artifact = artifact_of(model)
        assert artifact is not None, model
        return solutions[body["messages"][-1]["content"]] if artifact.step else "I do not know"

    return says


def environment(service: Service) -> dict[str, str]:
    """Of a process that trains with the service and has no device's child to start."""
    return {
        "TRAIN_BACKEND": "art-serverless",
        "ART_BASE_URL": service.url,
        "WANDB_API_KEY": KEY,
        "WANDB_PROJECT": PROJECT,
        "RLFLEET_ENV": "test",
        "RLFLEET_CHILD": "tests.no_such_child",
    }


@contextmanager
def training(service: Service, folder: Path, name: str = "worker", **variables: str) -> Iterator[Path]:
    """A worker of all queues that trains with the service and has no device's child to start. Its log."""
    told = environment(service) | {"RLFLEET_TICK_SECONDS": "1", "RLFLEET_RESEND_SECONDS": "5"}
    log = folder / f"{name}.log"
    with worker(log, *QUEUES, name=name, **told | variables):
        yield log


def sent(service: Service) -> str:
    """Everything that the service was sent, but for the key."""
    return json.dumps([service.asked, service.headers])
