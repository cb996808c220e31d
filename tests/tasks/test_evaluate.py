"""An evaluation on a child that lives and does not answer."""

from __future__ import annotations

import asyncio
import sys

import pytest
from redis import Redis

from rl.errors import EngineUnavailable
from tests.tasks.recipes import World, evaluate
from tests.tasks.rows import job
from tests.worker.doubles import MakeChild, is_gone
from worker.app import app

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_child_that_hangs_is_killed_so_that_the_next_attempt_has_another(
    broker: Redis, make_child: MakeChild, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = make_child()
    pid = child.wait_ready().pid
    module = sys.modules["tasks.evaluate"]

    async def no_answer(*_: object) -> object:
        await asyncio.sleep(0)
        raise EngineUnavailable("the engine does not answer")

    monkeypatch.setattr(module, "_play", no_answer)
    monkeypatch.setattr(module, "_prompt_hash", lambda _: "")
    monkeypatch.setattr(module, "resident", lambda: child)
    (wanted,) = evaluate(World(tmp_path))  # type: ignore[arg-type]
    answer = app.tasks["rlfleet.evaluate"].apply((wanted,))
    assert "queued (EngineUnavailable: the engine does not answer)" in str(answer.result)
    assert is_gone(pid)
    assert job(wanted).attempt == 1
