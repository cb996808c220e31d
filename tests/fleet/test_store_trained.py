"""Real trainings with a store: away while one is trained, and all that another host with an empty disk has.

Both hosts are this process, which has the artifacts, the state and the device's child of one of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from db import dispatch, lines
from db.session import transaction
from rl.config import Lora, SftTrain, TaskSet
from tests.conftest_database import *  # noqa: F403
from tests.conftest_database import empty
from tests.conftest_redis import *  # noqa: F403
from tests.fleet.test_reproduce_trained import (
    ADAPTER,
    CHILD,
    FULL,
    HOURS,
    ROOT,
    SFT,
    Line,
    do,
    logs,
    names,
    reproduced,
    row,
    starter,
)
from tests.s3_server import S3, s3
from worker import child as worker_child
from worker import settings as worker_settings
from worker.app import app

__all__ = ["s3"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KEY = "engine-key"
LORA = Lora(rank=4, alpha=8)
SET = TaskSet(environment="babyai-goto", split="validation", count=4)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """``at("one")`` goes to the host of that name: its artifacts are the only ones that are there. Returns them."""

    def go(name: str) -> Path:
        worker_child.resident().kill()
        for other in tmp_path.glob("host-*"):
            other.rename(tmp_path / other.name.replace("host-", "away-"))
        here = tmp_path / f"host-{name}"
        if (tmp_path / f"away-{name}").is_dir():
            (tmp_path / f"away-{name}").rename(here)
        monkeypatch.setenv("RLFLEET_ARTIFACTS", str(here / "artifacts"))
        monkeypatch.setenv("RLFLEET_STATE", str(here))
        monkeypatch.setattr(worker_child, "_resident", None)
        worker_settings.settings.cache_clear()
        return here / "artifacts"

    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RLFLEET_DEVICE": "cpu", "RLFLEET_ENGINE_KEY": KEY}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(worker_child, "_resident", None)
    yield go
    worker_child.resident().kill()
    worker_settings.settings.cache_clear()


@pytest.fixture
def line(database: str, broker: Redis, s3: S3, at: Callable[[str], Path], tmp_path: Path) -> Line:
    at("one")
    with transaction() as session:
        empty(session)
    return Line(starter(tmp_path), logs(tmp_path))


def evaluated(version: str, step: int) -> Any:
    """The job that plays the version's checkpoint, as a worker of this host leaves it."""
    with transaction() as session:
        line_id = lines.named(session, "main").id
        inputs = {"version": version, "step": step, "first": 0, "count": SET.count, "sample": 0}
        spec = dispatch.Spec("evaluate", line_id, inputs, SET.model_dump(mode="json"), "gpu")
        job_id = dispatch.request(session, spec)
    do("evaluate", job_id)
    return row("select state, error, attempt from rlfleet.jobs where id = :id", id=job_id)


def stored() -> list[bool]:
    """Of each checkpoint, in the order in which they were made, whether the rows say that the store has it."""
    query = """
        select array_agg(m.done_at is not null order by c.id)
          from rlfleet.checkpoints c left join rlfleet.mirrors m on m.target = 'store' and m.ref = c.id
    """
    return [bool(one) for one in row(query)[0]]


def test_two_hosts_and_a_store_that_is_away(
    line: Line, s3: S3, at: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The store hangs: the version is trained, released and evaluated all the same, and sent afterwards.
    monkeypatch.setenv("RLFLEET_STORE_SECONDS", "3")
    s3.befall("GET|PUT", "hold")
    line.trained_on(HOURS[0], SftTrain(steps=4, **SFT))
    told = evaluated(FULL, 4)
    assert (told.state, told.error) == ("succeeded", None)
    assert stored() == [False]
    assert row("select count(*) from rlfleet.releases where ended_at is null")[0] == 1
    s3.heal()
    assert "store: 1 of 1 sent" in app.tasks["rlfleet.mirror"].apply().get()
    assert stored() == [True]
    monkeypatch.setenv("RLFLEET_STORE_SECONDS", "120")
    line.trained_on(HOURS[1], SftTrain(steps=3, lora=LORA, **SFT))
    assert stored() == [True, True]

    # Another host with an empty disk evaluates what the first trained, with the base that it rests on.
    two = at("two")
    told = evaluated(ADAPTER, 3)
    assert (told.state, told.error) == ("succeeded", None)
    for uri in (row("select uri from rlfleet.checkpoints where step = :step", step=step).uri for step in (4, 3)):
        assert not Path(uri).exists()
        assert (two / uri.partition("/artifacts/")[2] / "checkpoint.json").is_file()

    # It trains on from there. The rows name the base as they did before; reproducing works on either host.
    line.trained_on(HOURS[2], SftTrain(steps=2, lora=LORA, **SFT))
    full, last = (row("select * from rlfleet.checkpoints where step = :step", step=step) for step in (4, 5))
    assert last.base_uri == full.uri == row("select base_model from rlfleet.versions order by id desc limit 1")[0]
    assert last.uri.startswith(f"{two}/")
    assert stored() == [True, True, True]
    found = reproduced(CHILD)
    assert (found["equal"], names(found)) == (True, set())

    # An engine of the first host is told the path of the second, as the gateway does.
    one = at("one")
    url = worker_child.resident().wait_ready().url
    engine = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=240, trust_env=False)
    body = {"lora_name": CHILD, "lora_path": last.uri}
    answer = engine.post("/v1/load_lora_adapter", json=body)
    assert answer.status_code == 200, answer.text
    models = {model["id"]: model for model in engine.get("/v1/models").json()["data"]}
    place = last.uri.partition("/artifacts/")[2]
    assert models[CHILD]["root"] == str(one / place)
    assert models[CHILD]["parent"] == full.uri
    found = reproduced(CHILD)
    assert (found["equal"], names(found)) == (True, {"base"})

    # What neither this disk nor the store has is not to be had yet, and costs the job nothing.
    body["lora_path"] = last.uri.replace("step-000005", "step-000006")
    assert engine.post("/v1/load_lora_adapter", json=body | {"lora_name": "x"}).status_code == 400
    engine.close()
    s3.befall("GET", "500")
    at("three")
    waits = evaluated(CHILD, 5)
    assert (waits.state, waits.attempt) == ("queued", 0)
    assert "StoreUnavailable" in waits.error
