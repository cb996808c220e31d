"""What `rlfleet reproduce` checks and says; the child is a real process without a model, which says a fixed hash."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from db import calls, datasets, dispatch, lines, trajectories, versions, windows
from db.session import transaction
from fleet import cli, reproduce
from rl.config import LineConfig
from rl.records import Call, Message, Trajectory
from rl.scoring import by_reward
from rl.windows import parse
from tasks import frozen
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.worker.doubles import FakeChild, make_child
from worker import settings as worker_settings

__all__ = ["make_child"]

HOUR = "2025-01-15T10:00"
SAID = "0" * 64
"""The hash that the child without a model says."""
HERE = {"torch": "2.13.0", "threads": 1, "device": "cpu"}
NAME = "babylon-agent-v1.0.0"


def trajectory(number: int) -> Trajectory:
    moment = parse(HOUR).hour
    assert moment is not None
    call = Call(
        call_id=f"t{number}/0",
        turn=0,
        model="another-model",
        messages=[Message(role="user", content="red ball ahead")],
        response=Message(role="assistant", content=f"forward {number}"),
    )
    return Trajectory(
        trajectory_id=f"t{number}",
        scenario_id=f"world/{number % 2} é",
        agent_id="a",
        started_at=moment,
        ended_at=moment,
        reward=number / 3,
        calls=[call],
    )


@dataclass
class World:
    """A version of three trajectories, on a base whose hash is known; ``asked`` collects what torch was asked for."""

    folder: Path
    runner: CliRunner = field(default_factory=CliRunner)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=lambda: dict(HERE))
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return str(self.folder / "base")

    def ask(self, device: str, *folders: str, backend: str = "local") -> dict[str, Any]:
        self.asked.append((device, *folders))
        return {"environment": self.environment, "folders": {one: self.hashes.get(one, "f" * 64) for one in folders}}

    def trained(self, *script: str, sha256: str = SAID, adjust: Mapping[str, Any] | None = None, **said: Any) -> None:
        """The rows of a training whose config makes the child say ``script``; ``said`` goes into the manifest."""
        Path(self.base).mkdir()
        self.hashes[self.base] = "b" * 64
        with transaction() as session:
            empty(session)
            line_id = lines.put(session, "main", LineConfig(base_model=self.base))
            window = windows.ensure(session, line_id, parse(HOUR), state="scored")
            several = [trajectory(number) for number in range(3)]
            trajectories.insert_trajectories(session, line_id, window, "jsonl", several)
            spoken = [
                calls.NewCall.of(call, trajectory_id=one.trajectory_id, line="main", agent_id=None)
                for one in several
                for call in one.calls
            ]
            calls.insert(session, spoken)
            trajectories.insert_scores(session, [by_reward(one.trajectory_id, one.reward) for one in several])
            spec = dispatch.Spec(
                "train", line_id, {"windows": [HOUR]}, {"objective": "sft", "script": list(script)}, "gpu"
            )
            job = dispatch.request(session, spec)
            found = trajectories.of_windows(session, [window])
            kept = datasets.freeze(session, line_id, job, [window], found, {"windows": [HOUR]})
        out = self.folder / "jobs"
        file = frozen.write(out, frozen.Frozen(kept.id, {}, False, None))[1]
        with transaction() as session:
            about = {"base": self.base, "base_sha256": "b" * 64, "dataset_file": file, "environment": HERE}
            versions.add(
                session,
                line=lines.named(session, "main"),
                prefix="babylon-agent",
                job_id=job,
                fence=3,
                checkpoints=[versions.NewCheckpoint(2, "full", str(out / "step-000002"), self.base, sha256, {})],
                parent_id=None,
                base_model=self.base,
                manifest=about | said,
            )
        if adjust is not None:
            change("update rlfleet.jobs set adjust = cast(:adjust as jsonb)", adjust=json.dumps(adjust))

    def run(self, *words: str) -> Result:
        return self.runner.invoke(cli.app, ["reproduce", *(words or (NAME,))])

    def json(self, code: int) -> dict[str, Any]:
        result = self.run(NAME, "--json")
        assert result.exit_code == code, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def refused(self, *words: str) -> str:
        result = self.run(*words)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        return result.stderr


def change(statement: str, **values: object) -> None:
    with transaction() as session:
        session.execute(text(statement), values)


@pytest.fixture
def world(
    database: str, tmp_path: Path, make_child: Callable[..., FakeChild], monkeypatch: pytest.MonkeyPatch
) -> World:
    world = World(tmp_path)
    monkeypatch.setattr(reproduce, "_ask", world.ask)
    monkeypatch.setattr(reproduce, "Child", lambda device, state, module: FakeChild(state))
    worker_settings.settings.cache_clear()
    return world


def test_equal_hashes_are_said_and_exit_with_zero(world: World) -> None:
    world.trained("progress", "checkpoint", "done")
    result = world.run()
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, last = result.stdout.splitlines()
    assert (first, second) == (f"stored      {SAID}", f"reproduced  {SAID}")
    assert last.startswith(f"{NAME}: equal, ")
    assert world.asked == [("cpu", world.base)]
    found = world.json(0)
    assert found.pop("seconds") >= 0
    hashes = {"stored": SAID, "reproduced": SAID, "equal": True}
    assert found == {"schema": 1, "version": NAME, **hashes, "differences": []}


def test_a_short_name_is_one_of_the_line(world: World) -> None:
    world.trained("checkpoint", "done")
    assert world.run("v1.0.0").exit_code == 0
    assert "no such line" in world.refused("v1.0.0", "--line", "other")


def test_other_bytes_exit_with_one_and_the_likely_reason(world: World) -> None:
    world.environment |= {"torch": "2.14.0", "threads": 4, "cuda": "13"}
    world.trained("checkpoint", "done", sha256="1" * 64)
    found = world.json(1)
    assert (found["stored"], found["reproduced"], found["equal"]) == ("1" * 64, SAID, False)
    assert found["differences"] == [
        {"name": "torch", "stored": "2.13.0", "here": "2.14.0"},
        {"name": "threads", "stored": 1, "here": 4},
        {"name": "cuda", "stored": None, "here": "13"},
    ]
    result = world.run()
    assert "not as it was: threads: 1 then, 4 here (set RLFLEET_TORCH_THREADS to the first)\n" in result.stderr
    assert ", likely because of\ntorch: 2.13.0 then, 2.14.0 here\n" in result.stdout


def test_a_difference_that_changes_no_byte_is_a_warning(world: World) -> None:
    world.trained("checkpoint", "done", environment={**HERE, "python": "3.11.1"})
    assert world.json(0)["differences"] == [{"name": "python", "stored": "3.11.1", "here": None}]


def test_what_an_older_manifest_does_not_say_is_a_difference(world: World) -> None:
    world.trained("checkpoint", "done")
    change("update rlfleet.versions set manifest = '{}'")
    found = world.json(0)["differences"]
    assert found == [
        {"name": "environment", "stored": None, "here": HERE},
        {"name": "base_sha256", "stored": None, "here": "b" * 64},
    ]


def test_an_unknown_version_names_near_ones(world: World) -> None:
    world.trained("checkpoint", "done")
    said = world.refused("babylon-agent-v1.0.7")
    assert "version = 'babylon-agent-v1.0.7': no such version; near ones are: babylon-agent-v1.0.0" in said
    assert "no such version; the newest are: babylon-agent-v1.0.0" in world.refused("x")


def test_a_base_that_is_gone_or_was_changed_is_not_trained_on(world: World) -> None:
    world.trained("checkpoint", "done")
    world.hashes[world.base] = "c" * 64
    said = world.refused()
    assert f"base = '{world.base}': its SHA-256 is {'c' * 64}, it was {'b' * 64}: it was changed since" in said
    Path(world.base).rmdir()
    assert f"base = '{world.base}': this folder is gone" in world.refused()


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("delete from rlfleet.dataset_trajectories where trajectory_id = 't1'", "2 of its 3 rows are left"),
        ("update rlfleet.dataset_trajectories set score = 0.5 where trajectory_id = 't1'", "its rows were changed"),
        ('update rlfleet.dataset_trajectories set "group" = "group" || 1', "its rows were changed since"),
        ("delete from rlfleet.datasets", "its dataset is gone"),
        ("delete from rlfleet.calls where trajectory_id = 't2'", "were changed or removed since, first in row 2 of"),
        ("update rlfleet.calls set turn = 1 where trajectory_id = 't0'", "were changed or removed since, first in row"),
    ],
)
def test_rows_that_are_not_what_they_were_are_not_trained_on(world: World, statement: str, why: str) -> None:
    world.trained("checkpoint", "done")
    change(statement)
    assert why in world.refused()


def test_a_failure_of_the_child_is_said_by_its_name(world: World) -> None:
    world.trained("progress", "disk-full")
    assert world.refused() == "rlfleet: DiskFull: no room\n"


def test_a_child_that_dies_or_ends_without_a_checkpoint_is_no_verdict(world: World) -> None:
    world.trained("progress", "die")
    assert "the child of cpu exited with -9" in world.refused()
    change("update rlfleet.jobs set config = config || jsonb_build_object('script', array['progress', 'done'])")
    assert "the child ended without a checkpoint" in world.refused()


def test_a_child_that_stalls_is_no_verdict(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLFLEET_STALL_SECONDS", "0.2")
    worker_settings.settings.cache_clear()
    world.trained("progress", "hang")
    assert "no progress for 0 s" in world.refused()
    worker_settings.settings.cache_clear()


def test_smaller_micro_batches_are_trained_with_and_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    given = reproduce._train
    monkeypatch.setattr(reproduce, "_train", lambda command, *rest: sent.append(command) or given(command, *rest))  # type: ignore[func-returns-value]
    said: dict[str, Any] = {"token_budget": 64, "token_budget_shrunk": 1, "config": {"token_budget": 128}}
    world.trained("checkpoint", "done", adjust={"token_budget": 128}, resumed={"step": 3}, **said)
    assert [(one["name"], one["stored"]) for one in world.json(0)["differences"]] == [
        ("token_budget", "128, and 64 after memory ran out"),
        ("adjusted", "{'token_budget': 128}, perhaps only after step 3"),
    ]
    assert sent[0].config == {"objective": "sft", "script": ["checkpoint", "done"], "token_budget": 64}
    assert (sent[0].resume, sent[0].save_seconds, sent[0].base, sent[0].parent) == (None, 0.0, world.base, None)


def test_what_is_kept_goes_into_a_new_folder(world: World) -> None:
    world.trained("checkpoint", "done")
    kept = world.folder / "kept"
    assert world.run(NAME, "--keep", str(kept)).exit_code == 0
    assert (kept / "dataset.jsonl").read_bytes() == (world.folder / "jobs" / "dataset.jsonl").read_bytes()
    assert "it exists; name a new folder" in world.refused(NAME, "--keep", str(kept))


def test_where_no_fleet_was_there_is_nothing_to_reproduce(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("RLFLEET_HOME", str(tmp_path / "home"))
    assert "no fleet has run here" in world.refused()
    assert not (tmp_path / "home").exists()
