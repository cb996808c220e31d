"""Versions that were really trained, one of them across a kill -9 of its child, come out again to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text
from typer.testing import CliRunner

from db import lines, versions, windows
from db.session import transaction
from fleet import cli
from rl.config import LineConfig, Lora, Optimizer, SftTrain
from rl.records import Call, Message, Trajectory
from rl.windows import parse
from tasks import carry
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty, released
from tests.conftest_redis import *  # noqa: F403
from worker import child as worker_child
from worker import settings as worker_settings
from worker.app import app

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HOURS = ("2025-01-15T10:00", "2025-01-15T11:00", "2025-01-15T12:00")
FULL, ADAPTER, CHILD = (f"babylon-agent-v1.0.{number}" for number in range(3))
SFT: dict[str, Any] = {"batch_episodes": 3, "optimizer": Optimizer(learning_rate=3e-3, warmup_steps=2)}


def trajectory(hour: str, number: int) -> Trajectory:
    moment = parse(hour).hour
    assert moment is not None
    name, answer = f"{hour}/{number}", ("turn left", "turn right", "move forward")[number % 3]
    call = Call(
        call_id=f"{name}/0",
        turn=0,
        model="another-model",
        messages=[Message(role="user", content=f"You see: wall {number} ahead")],
        response=Message(role="assistant", content=answer),
    )
    return Trajectory(
        trajectory_id=name,
        scenario_id=f"s{number}",
        agent_id="a",
        started_at=moment,
        ended_at=moment,
        reward=1.0,
        calls=[call],
    )


@dataclass
class Line:
    """A line whose windows are trained on by this process, as a GPU worker would; its child has a real model."""

    base: str
    source: str

    def trained_on(self, hour: str, config: SftTrain) -> None:
        """Collect, score and train; the new version is released. An attempt that was lost is followed by another."""
        with transaction() as session:
            line = LineConfig(base_model=self.base, train=config, source=self.source, automatic=False)
            windows.ensure(session, lines.put(session, "main", line), parse(hour), state="closed")
        do("train_window", hour)
        for kind in ("collect", "score", "train"):
            do(kind, job(kind))
        while row("select state from rlfleet.jobs where kind = 'train' order by id desc limit 1")[0] == "queued":
            change("update rlfleet.jobs set run_at = now() where state = 'queued'")
            do("train", job("train"))
        with transaction() as session:
            line_id = lines.named(session, "main").id
            newest = str(row("select name from rlfleet.versions order by id desc limit 1")[0])
            version = versions.named(session, newest)[0]
            versions.set_state(session, [version.id], "ready", "set by a test")
            released(session, line_id, version.id, 100, "released by a test")


def do(name: str, argument: object) -> None:
    answer = app.tasks[f"rlfleet.{name}"].apply(args=(argument,))
    assert answer.successful(), answer.result


def job(kind: str) -> int:
    return int(row("select id from rlfleet.jobs where kind = :kind order by id desc limit 1", kind=kind)[0])


def row(statement: str, **values: object) -> Any:
    with transaction() as session:
        return session.execute(text(statement), values).one()


def change(statement: str, **values: object) -> None:
    with transaction() as session:
        session.execute(text(statement), values)


@pytest.fixture(scope="module")
def line(database: str, broker: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Three versions: full weights, an adapter on them, and one that went on from that adapter after a kill -9."""
    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RLFLEET_ARTIFACTS", str(folder / "artifacts"))
        patch.setenv("RLFLEET_STATE", str(folder))
        patch.setenv("RLFLEET_DEVICE", "cpu")
        patch.setenv("RLFLEET_SAVE_SECONDS", "0.000001")
        patch.setattr(worker_child, "_resident", None)
        worker_settings.settings.cache_clear()
        with transaction() as session:
            empty(session)
        try:
            line = Line(starter(folder), logs(folder))
            line.trained_on(HOURS[0], SftTrain(steps=4, **SFT))
            lora = Lora(rank=4, alpha=8)
            line.trained_on(HOURS[1], SftTrain(steps=3, lora=lora, **SFT))
            with killed_once():
                line.trained_on(HOURS[2], SftTrain(steps=12, lora=lora, seed=5, **SFT))
            yield line
        finally:
            worker_child.resident().kill()
    worker_settings.settings.cache_clear()


def starter(folder: Path) -> str:
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps(f"You see: wall {number} ahead turn left") + "\n" for number in range(99)))
    argv = [sys.executable, "-m", "gpu.starter", "--texts", str(texts), "--out", str(folder / "base"), "--seed", "3"]
    subprocess.run(argv, check=True, capture_output=True)
    return str(folder / "base")


def logs(folder: Path) -> str:
    path = folder / "agent.jsonl"
    rows = [trajectory(hour, number) for hour in HOURS for number in range(6)]
    path.write_text("".join(one.model_dump_json() + "\n" for one in rows))
    return f"jsonl://{path}"


def kill_child() -> int:
    """Kill the device's child, and lose what it has said that nobody has read yet. Returns its pid."""
    child = worker_child.resident()
    pid = child.wait_ready().pid
    os.kill(pid, signal.SIGKILL)
    while os.read(child._events, 1 << 16):
        pass
    child._buffer = b""
    return pid


@contextmanager
def killed_once() -> Iterator[None]:
    """Within the block the first child that has saved a state is killed."""
    given = carry.Lease.renew
    killed: list[int] = []

    def renew(self: carry.Lease, progress: Mapping[str, Any] | None = None, resume: Any = None) -> None:
        given(self, progress, resume)
        if resume and not killed:
            killed.append(kill_child())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carry.Lease, "renew", renew)
        yield
    assert killed


def reproduced(name: str, *words: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(cli.app, ["reproduce", name, "--json", *words])
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout) if code < 2 else {"said": result.stderr}
    return found


def names(found: Mapping[str, Any]) -> set[str]:
    """What differs."""
    return {one["name"] for one in found["differences"]}


def test_full_weights_come_out_again(line: Line, tmp_path: Path) -> None:
    found = reproduced(FULL, "--keep", str(tmp_path / "kept"))
    stored = row("select sha256, uri from rlfleet.checkpoints order by id limit 1")
    assert (found["equal"], found["stored"], found["reproduced"]) == (True, stored.sha256, stored.sha256)
    assert names(found) == set()
    kept = (tmp_path / "kept" / "step-000004" / "model.safetensors").read_bytes()
    assert kept == (Path(stored.uri) / "model.safetensors").read_bytes()


def test_a_version_that_was_killed_and_resumed_is_that_of_one_go(line: Line) -> None:
    manifest = row("select manifest from rlfleet.versions where name = :name", name=CHILD).manifest
    assert manifest["resumed"]["step"] >= 1
    assert (manifest["parent"], manifest["updates"]) == (ADAPTER, 12)
    assert row("select attempt from rlfleet.jobs where kind = 'train' order by id desc limit 1")[0] == 2
    found = reproduced(CHILD)
    assert (found["equal"], names(found)) == (True, set())


def test_an_adapter_whose_base_was_moved_comes_out_again(line: Line) -> None:
    before = Path(row("select base_uri from rlfleet.checkpoints order by id desc limit 1")[0])
    after = before.with_name("moved")
    before.rename(after)
    move(before, after)
    found = reproduced(ADAPTER)
    assert (found["equal"], names(found)) == (True, {"base"})
    after.rename(before)
    move(after, before)


def move(before: Path, after: Path) -> None:
    """As a restore under another root does."""
    old = {"before": str(before), "after": str(after)}
    change("update rlfleet.checkpoints set uri = :after where uri = :before", **old)
    change("update rlfleet.checkpoints set base_uri = :after where base_uri = :before", **old)
    change("update rlfleet.versions set base_model = :after where base_model = :before", **old)


def test_another_seed_gives_other_bytes_and_names_the_files(line: Line) -> None:
    changed = "update rlfleet.jobs set config = jsonb_set(config, '{seed}', :seed) where id = :id"
    change(changed, seed="1", id=job("train"))
    found = reproduced(CHILD, code=1)
    change(changed, seed="5", id=job("train"))
    assert found["equal"] is False
    assert names(found) == {"adapter_model.safetensors", "optimizer.safetensors"}


def test_a_parent_that_was_changed_is_not_trained_on(line: Line) -> None:
    uri = row("select uri from rlfleet.checkpoints where kind = 'adapter' order by id limit 1")[0]
    config = Path(uri) / "adapter_config.json"
    kept = config.read_text()
    config.write_text(kept.replace('"r": 4', '"r":  4'))
    said = reproduced(CHILD, code=2)["said"]
    config.write_text(kept)
    assert f"parent = '{uri}': its SHA-256 is " in said
