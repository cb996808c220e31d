"""A hook that hangs holds up the reports of its own line, and of no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gateway import redactor, reports
from rl.redaction import Redaction
from tests import redaction_hooks
from tests.gateway.conftest import World
from tests.gateway.test_redaction import HOOKS, client, put, rows

__all__ = ["client"]

HANGS = Redaction(hook=f"{HOOKS}:hang")


@pytest.fixture(autouse=True)
def _hook() -> Iterator[None]:
    redaction_hooks.LET_GO.clear()
    while redaction_hooks.ENTERED.acquire(blocking=False):
        pass
    yield
    redaction_hooks.LET_GO.set()


def report(client: httpx.Client, name: str, line: str = "main") -> httpx.Response:
    start = {"type": "startTrajectory", "trajectoryId": name, "agentId": "a", "line": line, "metadata": {"k": name}}
    return client.post("/v1/ingest", json={"schema": 1, "events": [start]})


def started() -> set[str]:
    return {row[0] for row in rows("select trajectory_id from rlfleet.recordings")}


def test_reports_of_other_lines_go_on_while_a_hook_hangs(world: World, client: httpx.Client) -> None:
    put(HANGS)
    put(Redaction(), "plain")
    put(Redaction(hook=f"{HOOKS}:mask"), "masked")
    number = reports.AT_ONCE + 2
    with ThreadPoolExecutor(number) as threads:
        waiting = [threads.submit(report, client, f"t{index}") for index in range(number)]
        try:
            for _ in range(redactor.AT_ONCE):
                assert redaction_hooks.ENTERED.acquire(timeout=60)
            assert [report(client, line, line).status_code for line in ("plain", "masked")] == [200, 200]
            assert started() == {"plain", "masked"}
        finally:
            redaction_hooks.LET_GO.set()
        assert [one.result().status_code for one in waiting] == [200] * number
    assert len(started()) == number + 2


def test_reports_of_the_hooks_line_are_told_to_come_again(
    world: World, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redactor, "PATIENCE_SECONDS", 0.05)
    put(HANGS)
    for index in range(redactor.AT_ONCE + 2):  # the last ones find no thread that could take them
        answer = report(client, f"t{index}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "redaction_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
    assert started() == set()
    monkeypatch.undo()
    redaction_hooks.LET_GO.set()
    deadline = time.monotonic() + 60
    while report(client, "t0").status_code != 200:
        assert time.monotonic() < deadline
    assert started() == {"t0"}


def test_only_so_many_reports_wait_for_one_hook(world: World) -> None:
    put(HANGS)
    put(Redaction(), "plain")
    client = world.gateway(RLFLEET_INGEST_WAITING="2")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(report, client, "t0")
        try:
            assert redaction_hooks.ENTERED.acquire(timeout=60)
            assert report(client, "t1").status_code == 503
            assert report(client, "p0", "plain").status_code == 200
        finally:
            redaction_hooks.LET_GO.set()
        assert first.result().status_code == 200
