"""Agents, the gateway and Postgres as they really run, each killed with -9: what was flushed is stored, once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recorder.agent import EPISODE
from tests.recorder.doubles import HERE, ROOT, start_agent
from tests.recorder.real_gateway import Ids, RealGateway, serving, wait
from tests.recorder.talker import TURNS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def gateway() -> Iterator[RealGateway]:
    with serving() as one:
        yield one


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def steps_of(name: str, steps: int) -> set[str]:
    """The turns of that many steps of whole episodes."""
    return {f"{name}-{one // EPISODE} {one % EPISODE}" for one in range(steps)}


def calls_of(turns: set[str]) -> set[str]:
    return {"{}-call-{}-0".format(*one.split()) for one in turns}


def of(name: str, found: Ids) -> Ids:
    return {key: count for key, count in found.items() if key.startswith(f"{name}-")}


def flushed(agent: subprocess.Popen[str]) -> int:
    assert agent.stdout is not None
    word, number = agent.stdout.readline().split()
    assert word == "flushed"
    return int(number)


def end(agent: subprocess.Popen[str]) -> str:
    out, _ = agent.communicate("\n", timeout=300)
    assert agent.returncode == 0
    return out.splitlines()[-1]


def check(gateway: RealGateway, name: str, flushed_steps: int, *, is_all: bool) -> None:
    """Every flushed step and call is stored, everything that is stored is so once, and as it was recorded."""
    turns, calls = of(name, gateway.turns()), of(name, gateway.calls())
    expected = steps_of(name, flushed_steps)
    assert expected <= turns.keys()
    assert calls_of(expected) <= calls.keys()
    assert not is_all or (set(turns), set(calls)) == (expected, calls_of(expected))
    assert {*turns.values(), *calls.values()} == {1}
    assert {key.split()[0] for key in expected} <= gateway.ends()
    stored = gateway.rows(
        """select t.turn, t.reward, t.details, c.body from rlfleet.turns t
             join rlfleet.calls c on c.trajectory_id = t.trajectory_id and c.turn = t.turn
            where t.trajectory_id like :like""",
        like=f"{name}-%",
    )
    assert len(stored) == len(turns)
    assert all(is_as_recorded(*row) for row in stored)


def is_as_recorded(turn: int, reward: float, details: dict[str, Any], body: dict[str, Any]) -> bool:
    action = {"kind": "MOVE", "parameters": {"to": turn}, "success": True, "result": None, "error": None}
    return (
        reward == 0.5
        and details["state"] == {"step": turn}
        and details["action"] == action
        and body["messages"] == [{"role": "user", "content": f"state {turn}"}]
        and body["response"] == {"role": "assistant", "content": f"answer {turn}"}
    )


def test_what_a_killed_agent_flushed_is_stored_once(gateway: RealGateway, spool: Path, seed: int) -> None:
    draw, safe = random.Random(seed), dict[str, int]()
    for life in range(4):
        agent = start_agent("play", gateway.url, spool, f"killed{life}")
        for _ in range(draw.randint(1, 40)):
            safe[f"killed{life}"] = flushed(agent)
        agent.kill()
        agent.communicate()
    assert end(start_agent("drain", gateway.url, spool, "successor")) == "waiting 0"
    for name, steps in safe.items():
        check(gateway, name, steps, is_all=False)


def test_a_gateway_that_is_killed_in_the_middle_stores_everything_once(
    gateway: RealGateway, spool: Path, seed: int
) -> None:
    """By turns in the middle of a transaction, and as soon as one was committed, before its answer is out."""
    draw, steps, names = random.Random(seed), 2_000, ["left", "right"]
    before = gateway.count("turns")
    agents = [start_agent("count", gateway.url, spool, name, steps) for name in names]

    def stored() -> int:
        return gateway.count("turns") - before

    for number, target in enumerate(sorted(draw.sample(range(1, 2 * steps), 5))):
        wait(lambda target=target: stored() >= target)  # type: ignore[misc]
        if number % 2:
            wait(lambda: gateway.is_storing() or stored() == 2 * steps)
        gateway.kill()
        gateway.start()
    wait(lambda: stored() == 2 * steps)
    assert [end(agent) for agent in agents] == ["waiting 0"] * 2
    for name in names:
        check(gateway, name, steps, is_all=True)


def test_a_database_that_is_killed_in_the_middle_has_everything_once(
    gateway: RealGateway, spool: Path, seed: int
) -> None:
    draw, steps, name = random.Random(seed), 2_000, "steady"
    before = gateway.count("turns")
    agent = start_agent("count", gateway.url, spool, name, steps)
    for target in sorted(draw.sample(range(1, steps), 3)):
        wait(lambda target=target: gateway.count("turns") >= before + target)  # type: ignore[misc]
        gateway.kill_postgres()
        gateway.start_postgres()
    wait(lambda: gateway.count("turns") >= before + steps)
    assert end(agent) == "waiting 0"
    check(gateway, name, steps, is_all=True)


def test_an_agent_that_dies_while_everything_is_away_loses_nothing(
    gateway: RealGateway, spool: Path, seed: int
) -> None:
    draw, safe = random.Random(seed), dict[str, int]()
    for life in range(3):
        agent = start_agent("play", gateway.url, spool, f"alone{life}")
        for _ in range(draw.randint(2, 20)):
            safe[f"alone{life}"] = flushed(agent)
        gateway.kill()
        gateway.kill_postgres()
        for _ in range(draw.randint(1, 10)):
            safe[f"alone{life}"] = flushed(agent)
        agent.kill()
        agent.communicate()
        gateway.start_postgres()
        gateway.start()
    assert end(start_agent("drain", gateway.url, spool, "successor")) == "waiting 0"
    for name, steps in safe.items():
        check(gateway, name, steps, is_all=False)


def test_a_call_that_takes_both_ways_is_one_call(gateway: RealGateway, spool: Path, seed: int) -> None:
    """The gateway captured it with its tokens, the recorder reported it, and both were cut off again and again."""
    draw, episodes, name = random.Random(seed), 40, "talker"
    before = gateway.count("calls")
    words = [sys.executable, str(HERE / "talker.py"), gateway.url, str(spool), name, str(episodes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    agent = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=environment)
    for number, target in enumerate(sorted(draw.sample(range(1, TURNS * episodes), 4))):
        wait(lambda target=target: gateway.count("calls") >= before + target)  # type: ignore[misc]
        if number % 2:
            gateway.kill_postgres()
            gateway.start_postgres()
        else:
            gateway.kill()
            gateway.start()
    out, _ = agent.communicate("\n", timeout=300)
    *lines, last = out.splitlines()
    assert last == "waiting 0 rejected 0"
    heard = {call_id: answer for word, call_id, answer in (one.split(" ", 2) for one in lines if one[0] == "h")}
    expected = {f"{name}-{episode} {number}" for episode in range(episodes) for number in range(TURNS)}
    assert heard.keys() == calls_of(expected)
    assert of(name, gateway.turns()) == dict.fromkeys(expected, 1)
    assert of(name, gateway.calls()) == dict.fromkeys(heard, 1)
    stored = gateway.rows(
        """select call_id, body -> 'response' ->> 'content', model, length(token_ids), trajectory_id || ' ' || turn
             from rlfleet.calls where agent_id = :name""",
        name=name,
    )
    assert {call_id: answer for call_id, answer, *_ in stored} == heard, "what the agent acted on is what is stored"
    assert {(model, tokens) for _, _, model, tokens, _ in stored} == {("babylon-agent-v1.0.0", 8)}
    assert {turn for *_, turn in stored} == expected
    given = gateway.rows("select trajectory_id, count(*), min(value) from rlfleet.feedback group by 1 order by 1")
    assert given == sorted((f"{name}-{episode}", 1, 1.0) for episode in range(episodes))
