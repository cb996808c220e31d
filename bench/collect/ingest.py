"""Real agents, a real gateway and Postgres: turns in a second, then what is lost while both servers are killed.

The agents are ``python -m bench.collect.agent``, the gateway ``python -m gateway``. While the second round of agents
sends, the gateway is killed with SIGKILL and started again several times, and Postgres once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import httpx

from bench.collect.agent import EPISODE
from bench.faults.expect import wait_until
from bench.faults.ground import Ground
from db.session import dispose
from fleet.ports import free_port
from fleet.process import Child, Process
from fleet.processes import ROOT

START_SECONDS, END_SECONDS = 60.0, 600.0
AGENTS = 2


@dataclass(frozen=True)
class Stored:
    """What of one round of agents lies in the database, against what they flushed."""

    lost: int
    doubled: int


def measure(ground: Ground, turns: int, kills: int) -> dict[str, Any]:
    """``turns`` of each agent undisturbed, then as many while servers die. ``lost`` and ``doubled`` are over both."""
    gateway = _gateway(ground)
    _start(gateway)
    try:
        calm = _seconds(_run(ground, gateway, "calm", turns, kills=0))
        before = _stored(ground, "calm", turns)
        _seconds(_run(ground, gateway, "storm", turns, kills))
        after = _stored(ground, "storm", turns)
    finally:
        gateway.stop()
    return {
        "ingest_turns_per_second": round(AGENTS * turns / calm, 1),
        "ingest_lost": before.lost + after.lost,
        "ingest_doubled": before.doubled + after.doubled,
        "ingest_turns": 2 * AGENTS * turns,
        "gateway_kills": kills,
        "postgres_kills": min(kills, 1),
    }


def _gateway(ground: Ground) -> Child:
    port = free_port()
    variables = {"RLFLEET_GATEWAY_HOST": "127.0.0.1", "RLFLEET_GATEWAY_PORT": str(port), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "gateway"]
    process = Process("gateway", argv, os.environ | variables, ready=lambda: _answers(f"http://127.0.0.1:{port}"))
    return Child(process, ground.home, ground.watchdog)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/models", timeout=1.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _start(gateway: Child) -> None:
    gateway.start()
    wait_until(gateway.is_ready, START_SECONDS, f"starting the gateway; see {gateway.log}")


def _kill(gateway: Child) -> None:
    if gateway.status.pid is not None:
        os.kill(gateway.status.pid, signal.SIGKILL)
    wait_until(lambda: gateway.ended() is not None, START_SECONDS, "the end of the gateway")


def _run(ground: Ground, gateway: Child, name: str, turns: int, kills: int) -> list[dict[str, Any]]:
    """What the agents said at their ends. Kills come as ever more turns are stored, the last at seven tenths of them.

    Raises:
        RuntimeError: an agent did not come to its end.
    """
    url = f"http://127.0.0.1:{gateway.process.env['RLFLEET_GATEWAY_PORT']}"
    agents = [_agent(ground, url, f"{name}{number}", turns) for number in range(AGENTS)]
    try:
        for number in range(kills):
            _await_stored(ground, agents, name, AGENTS * turns * 7 * (number + 1) // (10 * kills))
            if number == kills // 2:  # the gateway lives meanwhile, and has to say that it cannot store anything
                ground.kill_postgres()
                dispose()
                ground.start_postgres()
            _kill(gateway)
            _start(gateway)
        said = [one.communicate(timeout=END_SECONDS)[0] for one in agents]
    finally:
        for one in agents:
            one.kill()
            one.wait()
    if any(one.returncode for one in agents):
        raise RuntimeError(f"an agent ended with {[one.returncode for one in agents]}")
    return [json.loads(one) for one in said]


def _agent(ground: Ground, url: str, name: str, turns: int) -> subprocess.Popen[str]:
    spool = ground.folder("spool", name)
    argv = [sys.executable, "-m", "bench.collect.agent", url, str(spool), name, str(turns)]
    return subprocess.Popen(argv, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def _await_stored(ground: Ground, agents: list[subprocess.Popen[str]], name: str, turns: int) -> None:
    """Raises ``RuntimeError`` when the agents ended before so many turns were stored."""
    count = "select count(*) from rlfleet.turns where trajectory_id like :name"

    def stored() -> bool:
        are_over = all(one.poll() is not None for one in agents)
        if (found := ground.one(count, name=f"{name}%")[0]) < turns and are_over:
            raise RuntimeError(f"the agents ended, and {found} of {turns} turns are stored")
        return bool(found >= turns)

    wait_until(stored, END_SECONDS, f"{turns} turns of {name}")


def _seconds(said: list[dict[str, Any]]) -> float:
    """From the first record to the last answer.

    Raises:
        RuntimeError: the server has not answered for everything, or refused some.
    """
    if any(one["waiting"] or one["rejected"] for one in said):
        raise RuntimeError(f"the agents ended with events that are not stored: {said}")
    return float(max(one["ended"] for one in said) - min(one["began"] for one in said))


COUNTS = """
    with kept as (
        select trajectory_id || ' ' || turn as id from rlfleet.turns
         where trajectory_id like :name and reward = 0.5 and cast(details -> 'state' ->> 'step' as int) = turn
        union all select call_id from rlfleet.calls where trajectory_id like :name
        union all select trajectory_id from rlfleet.recordings
         where trajectory_id like :name and status = 'completed' and agent_id is not null
    )
    select count(*), count(distinct id) from kept
"""


def _stored(ground: Ground, name: str, turns: int) -> Stored:
    """Turns with what they held, calls and whole episodes: how many are missing, and how many are there twice."""
    rows, distinct = ground.one(COUNTS, name=f"{name}%")
    flushed = AGENTS * (2 * turns + turns // EPISODE)
    return Stored(flushed - distinct, rows - distinct)
