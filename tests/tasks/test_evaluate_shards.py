"""Evaluation jobs on BabyAI, with a model that speaks over real HTTP in place of the device's engine."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select, text

import environments
from db import dispatch, evaluations, lines, versions
from db.evaluations import Shard
from db.jobs import Claim
from db.session import transaction
from db.tables import Evaluation, Verdict
from environments.contract import Episode
from rl.config import LineConfig, TaskSet, digest
from rl.records import ScenarioRef
from tasks.engine import Served
from tests.environments.test_play import Model
from tests.tasks.rows import job
from worker.app import app

pytestmark = pytest.mark.usefixtures("fresh")

TASKS = TaskSet(environment="babyai-goto", split="validation", first_seed=100, count=6)
TWICE = TaskSet(environment="babyai-goto", split="validation", count=3, samples=2, temperature=0.7)
BABYAI = environments.load("babyai-goto")
PROMPT = digest(BABYAI.system, BABYAI.max_turns, BABYAI.max_tokens)


@pytest.fixture
def model(broker: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """What the checkpoint is served by."""
    served, began = Model(), threading.Event()
    place: list[Any] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
            place.extend((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
            began.set()
            await stop.wait()
            await served.hung_up()

    server = threading.Thread(target=lambda: asyncio.run(serve()))
    server.start()
    assert began.wait(30)
    port, loop, stop = place

    async def serve_version(name: str, *_: object) -> Served:
        await asyncio.sleep(0)
        return Served(f"http://127.0.0.1:{port}", "", name)

    monkeypatch.setattr("tasks.engine.serve_version", serve_version)
    yield served
    loop.call_soon_threadsafe(stop.set)
    server.join()


def add_versions(*hashes: str) -> list[str]:
    with transaction() as session:
        lines.put(session, "main", LineConfig(base_model="b"))
        line = lines.named(session, "main")
        names = []
        for sha in hashes:
            spec = dispatch.Spec("train", line.id, inputs={"n": secrets.token_hex(4)}, config={}, queue="gpu")
            made = versions.add(
                session,
                line=line,
                prefix="v",
                job_id=dispatch.request(session, spec),
                fence=1,
                checkpoints=[versions.NewCheckpoint(1, "adapter", "/c", "/base", sha * 64, {})],
                parent_id=None,
                base_model="b",
                manifest={},
            )
            names.append(made.name)
    return names


def evaluate(name: str, task_set: TaskSet = TASKS, **inputs: Any) -> tuple[int, str]:
    """The id of the job, and what the task says of it."""
    with transaction() as session:
        line_id = lines.named(session, "main").id
        spec = dispatch.Spec(
            "evaluate", line_id, inputs={"version": name} | inputs, config=task_set.model_dump(mode="json"), queue="gpu"
        )
        job_id = dispatch.request(session, spec)
    return job_id, str(app.tasks["rlfleet.evaluate"].apply((job_id,)).result)


def rows() -> list[Evaluation]:
    with transaction() as session:
        return list(session.scalars(select(Evaluation).order_by(Evaluation.id)))


def verdicts() -> list[Verdict]:
    with transaction() as session:
        return list(session.scalars(select(Verdict).order_by(Verdict.evaluation_id, Verdict.scenario_id)))


def test_a_shard_plays_its_scenarios_alone_and_stores_them_under_its_key(model: Model) -> None:
    (name,) = add_versions("a")
    evaluate(name, first=2, count=3)
    (row,) = rows()
    assert (row.checkpoint_sha256, row.task_set_hash, row.judge) == ("a" * 64, digest(TASKS), "environment")
    assert (row.prompt_hash, row.against, row.sample, row.first) == (PROMPT, "", 0, 2)
    found = verdicts()
    assert [one.scenario_id for one in found] == [f"babyai-goto/validation/{seed}" for seed in (102, 103, 104)]
    assert {one.type for one in found} == {"babyai-goto"}
    assert (row.k, row.n, row.missing) == (sum(one.right or 0 for one in found), 3, 0)
    hashes = [environments.load("babyai-goto").open(ref).content_hash for ref in map(ref_of, (102, 103, 104))]
    assert [one.content_hash for one in found] == hashes
    assert {body["temperature"] for *_, body in model.calls} == {0.0}


def test_a_verdict_says_that_an_answer_was_broken_and_that_the_turns_ran_out(model: Model) -> None:
    (name,) = add_versions("a")
    model.says = ""
    evaluate(name, first=0, count=1)
    (found,) = verdicts()
    assert (found.right, found.reason) == (False, "broken output: empty; the turn limit ended it")


@pytest.mark.parametrize(
    ("status", "says", "right", "reason"),
    [
        (400, "no", None, "engine: http://127.0.0.1"),
        (400, "context_length_exceeded", False, "context: None"),
        (422, "This model's maximum context length is 8 tokens", False, "context: None"),
    ],
)
def test_a_failed_episode_is_no_verdict_and_one_that_outgrew_the_context_is_wrong(
    model: Model, status: int, says: str, right: bool | None, reason: str
) -> None:
    (name,) = add_versions("a")
    model.status, model.says = status, says
    evaluate(name, first=0, count=2)
    (row,) = rows()
    assert (row.k, row.n, row.missing) == (0, 2 if right is False else 0, 2 if right is None else 0)
    assert [one.right for one in verdicts()] == [right, right]
    assert all(str(one.reason).startswith(reason) for one in verdicts())


def ref_of(seed: int) -> ScenarioRef:
    return ScenarioRef(environment="babyai-goto", split="validation", seed=seed)


def test_another_limit_of_turns_or_tokens_is_another_evaluation(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = add_versions("a")
    evaluate(name, TASKS)
    for limit in ("max_turns", "max_tokens"):
        monkeypatch.setattr(type(BABYAI), limit, getattr(BABYAI, limit) + 1)
        evaluate(name, TASKS, prompt=digest(BABYAI.system, BABYAI.max_turns, BABYAI.max_tokens))
    hashes = [row.prompt_hash for row in rows()]
    assert (hashes[0], len(set(hashes))) == (PROMPT, 3)


def test_a_checkpoint_has_a_name_of_its_own_in_the_engine(model: Model) -> None:
    for name, sha in zip(add_versions("a", "b"), "ab", strict=True):
        before = len(model.calls)
        evaluate(name, count=1)
        assert {body["model"] for *_, body in model.calls[before:]} == {f"{name}@{sha * 12}"}


def seeds(calls: list[tuple[str, int, str, dict[str, Any]]]) -> dict[tuple[str, ...], int]:
    """The seed of each episode, by its scenario and sample. Episodes are played at a time, in any order."""
    return {tuple(episode.rsplit("/", 2)[1:]): body["seed"] for episode, turn, _, body in calls if turn == 0}


def test_samples_have_seeds_of_their_own_that_no_shard_and_no_version_changes(model: Model) -> None:
    one, two = add_versions("a", "b")
    evaluate(one, TWICE)
    whole = seeds(model.calls)
    first = len(model.calls)
    evaluate(one, TWICE, sample=1)
    second = seeds(model.calls[first:])
    assert (sorted(whole), sorted(second)) == tuple([(str(seed), sample) for seed in range(3)] for sample in "01")
    assert len({*whole.values(), *second.values()}) == 6
    assert {body["temperature"] for *_, body in model.calls} == {0.7}
    before = len(model.calls)
    evaluate(two, TWICE, first=1, count=2)
    assert seeds(model.calls[before:]) == {key: seed for key, seed in whole.items() if key[0] != "0"}
    assert [(row.sample, row.first, row.n) for row in rows()] == [(0, 0, 3), (1, 0, 3), (0, 1, 2)]


def test_equal_weights_are_not_played_again(model: Model) -> None:
    one, two = add_versions("a", "a")
    evaluate(one)
    before = len(model.calls)
    job_id, said = evaluate(two)
    assert (len(model.calls), len(rows()), job(job_id).state) == (before, 1, "succeeded")
    assert "succeeded" in said


def test_a_prompt_that_this_worker_does_not_have_is_not_made_up(model: Model) -> None:
    (name,) = add_versions("a")
    job_id, _ = evaluate(name, prompt="of another day")
    assert job(job_id).state == "succeeded", "there was no result at all; it is stored under the prompt that is here"
    again, said = evaluate(name, prompt="of yet another day")
    assert job(again).state == "queued"
    assert f"here it is {PROMPT}: start this worker from the code that has it" in said
    assert len(rows()) == 1
    assert model.calls


def test_verdicts_that_were_missing_are_played_again_and_only_they_are_stored(model: Model) -> None:
    (name,) = add_versions("a")
    scenarios = [f"babyai-goto/validation/{seed}" for seed in range(100, 106)]
    lost = [
        {
            "scenario_id": one,
            "sample": 0,
            "right": None if place < 2 else False,
            "rival_right": None,
            "content_hash": "",
            "turns": 0,
            "type": "babyai-goto",
            "reason": "lost",
        }
        for place, one in enumerate(scenarios)
    ]
    store(name, lost)
    job_id, _ = evaluate(name, missing=2)
    assert job(job_id).state == "succeeded"
    found = verdicts()
    assert [one.right is None for one in found] == [False] * 6
    assert [one.turns > 0 for one in found] == [True, True, *[False] * 4]
    (row,) = rows()
    assert (row.n, row.missing, row.k) == (6, 0, sum(bool(one.right) for one in found[:2]))


def store(name: str, found: list[dict[str, Any]]) -> None:
    with transaction() as session:
        version, checkpoint = versions.named(session, name)
        spec = dispatch.Spec("evaluate", version.line_id, inputs={"n": 1}, config={}, queue="gpu")
        claim = Claim(dispatch.request(session, spec), "evaluate", version.line_id, "main", {}, {}, 1, 1)
        evaluations.store(session, claim, version, checkpoint, TASKS, Shard("environment", PROMPT, "", found))


def test_an_episode_that_names_its_type_gives_it_to_its_verdict(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = add_versions("a")
    babyai = environments.load("babyai-goto")
    opened = type(babyai).open

    def typed(self: Any, ref: ScenarioRef) -> Episode:
        episode = opened(self, ref)
        monkeypatch.setattr(type(episode), "type", "even" if ref.seed % 2 == 0 else "odd", raising=False)
        return episode

    monkeypatch.setattr(type(babyai), "open", typed)
    evaluate(name, first=1, count=1)
    assert [one.type for one in verdicts()] == ["odd"]
    with transaction() as session:
        counts = session.execute(text("select k, n from rlfleet.evaluations")).one()
    assert counts[1] == 1
