"""Real agents and a real server, killed with -9: what was flushed arrives, once."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recorder.agent import EPISODE
from tests.recorder.doubles import IngestProcess, held_port, start_agent, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IngestProcess]:
    with held_port() as port:
        process = IngestProcess(tmp_path, port)
        yield process
        process.kill()


def expected_keys(name: str, steps: int) -> set[str]:
    """The natural keys of everything that ``play`` records in that many steps of whole episodes."""
    episodes = [f"{name}-{index}" for index in range(steps // EPISODE)]
    ends = {f"{kind} {episode}" for episode in episodes for kind in ("startTrajectory", "endTrajectory")}
    return ends | {f"recordStep {episode} {number}" for episode in episodes for number in range(EPISODE)}


def is_as_recorded(event: dict[str, Any]) -> bool:
    if event["type"] != "recordStep":
        return True
    number = event["stepNumber"]
    (call,) = event["llmCalls"]
    return (
        event["environmentState"] == {"step": number}
        and event["action"] == {"actionType": "MOVE", "parameters": {"to": number}, "success": True}
        and event["reward"] == 0.5
        and call["callId"] == f"{event['trajectoryId']}-call-{number}-0"
        and call["messages"] == [{"role": "user", "content": f"state {number}"}]
        and call["response"] == f"answer {number}"
    )


def flushed(agent: subprocess.Popen[str]) -> int:
    assert agent.stdout is not None
    word, number = agent.stdout.readline().split()
    assert word == "flushed"
    return int(number)


def end(agent: subprocess.Popen[str]) -> str:
    """Let a ``count``ing agent close; its last line."""
    out, _ = agent.communicate(timeout=120)
    assert agent.returncode == 0
    return out.splitlines()[-1]


def segments(spool: Path) -> list[Path]:
    return list(spool.glob("*/*"))


@pytest.mark.parametrize("is_away", [True, False])
def test_what_a_killed_agent_flushed_arrives_once(
    server: IngestProcess, tmp_path: Path, seed: int, is_away: bool
) -> None:
    draw, spool = random.Random(seed), tmp_path / "spool"
    if not is_away:
        server.start()
    safe: dict[str, int] = {}
    for life in range(4):
        agent = start_agent("play", server.url, spool, f"agent{life}")
        for _ in range(draw.randint(1, 40)):
            safe[f"agent{life}"] = flushed(agent)
        agent.kill()
        agent.communicate()
    if is_away:
        assert server.events() == {}
        server.start()
    assert end(start_agent("drain", server.url, spool, "successor")) == "waiting 0"
    stored = server.events()
    for name, steps in safe.items():
        assert expected_keys(name, steps) <= stored.keys()
    assert all(is_as_recorded(event) for event in stored.values())
    assert segments(spool) == [], "nothing is kept that was answered"


def test_a_server_that_is_killed_again_and_again_has_every_event_once(
    server: IngestProcess, tmp_path: Path, seed: int
) -> None:
    draw, spool, steps = random.Random(seed), tmp_path / "spool", 1_500
    names = ["left", "right"]
    agents = [start_agent("count", server.url, spool, name, steps) for name in names]
    total = len(names) * len(expected_keys("any", steps))
    for target in sorted(draw.sample(range(1, total // 2), 6)):
        server.start()
        wait_until(lambda target=target: len(server.events()) >= target)  # type: ignore[misc]
        server.kill()
    server.start()
    assert [end(agent) for agent in agents] == ["waiting 0", "waiting 0"]
    stored = server.events()
    assert stored.keys() == set.union(*(expected_keys(name, steps) for name in names))
    assert all(is_as_recorded(event) for event in stored.values())


def test_both_are_killed_and_nothing_flushed_is_lost(server: IngestProcess, tmp_path: Path, seed: int) -> None:
    draw, spool = random.Random(seed), tmp_path / "spool"
    safe: dict[str, int] = {}
    for life in range(4):
        server.start()
        agent = start_agent("play", server.url, spool, f"agent{life}")
        for _ in range(draw.randint(2, 30)):
            safe[f"agent{life}"] = flushed(agent)
        server.kill()
        for _ in range(draw.randint(1, 10)):
            safe[f"agent{life}"] = flushed(agent)
        agent.kill()
        agent.communicate()
    server.start()
    assert end(start_agent("drain", server.url, spool, "successor")) == "waiting 0"
    stored = server.events()
    assert all(expected_keys(name, steps) <= stored.keys() for name, steps in safe.items())
    assert all(is_as_recorded(event) for event in stored.values())


def test_two_successors_do_not_replay_the_same_segments(server: IngestProcess, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    agent = start_agent("play", server.url, spool, "dead")
    steps = max(flushed(agent) for _ in range(20))
    agent.kill()
    agent.communicate()
    left = sum(path.stat().st_size for path in segments(spool))
    assert left > 0
    server.start()
    successors = [start_agent("drain", server.url, spool, f"successor{index}") for index in range(2)]
    assert [end(successor) for successor in successors] == ["waiting 0", "waiting 0"]
    assert expected_keys("dead", steps) <= server.events().keys()
    assert server.sent() == len(server.events()), "no event was sent twice"


def test_a_living_process_keeps_its_segments(server: IngestProcess, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    agent = start_agent("count", server.url, spool, "alive", EPISODE)
    assert flushed(agent) == EPISODE
    before = segments(spool)
    assert end(start_agent("drain", server.url, spool, "other")) == "waiting 0"
    assert segments(spool) == before
    server.start()
    assert end(agent) in ("waiting 0", f"waiting {EPISODE + 2}"), "the first if its back-off ended before its input"
    end(start_agent("drain", server.url, spool, "last"))
    assert server.events().keys() == expected_keys("alive", EPISODE)


def test_a_forked_child_has_a_thread_a_buffer_and_segments_of_its_own(server: IngestProcess, tmp_path: Path) -> None:
    server.start()
    out, _ = start_agent("fork", server.url, tmp_path / "spool", "a").communicate(timeout=120)
    assert out.splitlines() == ["child True 3", "parent True 4 0", "waiting 0"]
    stored = server.events()
    assert stored.keys() == {
        "startTrajectory a-parent",
        "recordStep a-parent 0",
        "recordStep a-parent 1",
        "endTrajectory a-parent",
        "startTrajectory a-child",
        "recordStep a-child 0",
        "endTrajectory a-child",
    }
    assert server.sent() == 7, f"nothing was sent twice: {json.dumps(sorted(stored))}"
