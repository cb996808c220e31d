"""The demo's logging agent: a scripted one that often goes to whatever object is nearest.

Each decision is the expert's with probability 0.4; otherwise it is to go to the nearest object in view. Its
logs are what a fleet starts from: another model's calls, without tokens or log-probabilities.

    python -m environments.careless --episodes 2500 --seed 0 --hour 2025-01-15T10:00 --out logs.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import environments
from environments.contract import Episode
from rl.errors import MalformedWindow
from rl.records import Call, Message, ScenarioRef, Trajectory
from rl.windows import parse

MODEL = "careless-agent-v0"
EXPERT_PROBABILITY = 0.4
SEED_STRIDE = 1_000_000
"""Train scenarios ``seed * SEED_STRIDE`` and up belong to the logs with that seed."""

NEAREST = re.compile(r"You see: (\w+ (?:ball|box|key))\b")


def decide(episode: Episode, observation: str, random: Random) -> str:
    """The agent's next action. It only reads text; the expert's decision comes from the episode."""
    nearest = NEAREST.search(observation)
    if random.random() <= EXPERT_PROBABILITY or nearest is None:
        return episode.oracle()
    return f"go to {nearest[1]}"


def lapses(seed: int, ref: ScenarioRef) -> Random:
    """What decides the agent's lapses on a scenario; the environment's name is no part of it."""
    return Random(f"{seed}/babyai/{ref.split}/{ref.seed}")


def turns(ref: ScenarioRef, random: Random) -> Iterator[tuple[list[Message], str, float]]:
    """Play one scenario: what the agent had read before each turn, what it replied, and the turn's reward."""
    episode = environments.load(ref.environment).open(ref)
    messages, done = episode.messages, False
    while not done:
        reply = decide(episode, messages[-1].content or "", random)
        observation, reward, done, _ = episode.step(reply)
        yield messages, reply, reward
        messages = [*messages, Message(role="assistant", content=reply), Message(role="user", content=observation)]


def play(ref: ScenarioRef, seed: int) -> bool:
    """Whether the careless agent solves the scenario; ``seed`` decides its lapses."""
    return sum(reward for _, _, reward in turns(ref, lapses(seed, ref))) >= 1.0


def episodes(count: int, seed: int, ended_at_start: datetime) -> Iterator[Trajectory]:
    """``count`` episodes on train scenarios, ending evenly spread over the hour after ``ended_at_start`` (aware).

    The same arguments give the same trajectories, ids included.
    """
    slot = timedelta(hours=1) / (count + 1)
    for index in range(count):
        ref = ScenarioRef(environment="babyai-goto", split="train", seed=seed * SEED_STRIDE + index)
        trajectory_id = f"careless-{ended_at_start:%Y%m%dT%H}-{seed}-{index:05d}"
        ended_at = ended_at_start + slot * (index + 1)
        played = list(turns(ref, lapses(seed, ref)))
        yield Trajectory(
            trajectory_id=trajectory_id,
            scenario_id=ref.id,
            agent_id="careless-agent",
            started_at=max(ended_at_start, ended_at - timedelta(seconds=len(played))),
            ended_at=ended_at,
            reward=sum(reward for _, _, reward in played),
            calls=[_call(trajectory_id, turn, read, reply) for turn, (read, reply, _) in enumerate(played)],
        )


def _call(trajectory_id: str, turn: int, messages: list[Message], reply: str) -> Call:
    return Call(
        call_id=f"{trajectory_id}-{turn}",
        turn=turn,
        model=MODEL,
        messages=messages,
        response=Message(role="assistant", content=reply),
        finish_reason="stop",
    )


def spoil(line: str, kind: int) -> str:
    """A row that no source should accept, made from a good one. The kinds take turns.

    0 no assistant turn, 1 a reward that is NaN, 2 not JSON, 3 a missing field, 4 a moment without a zone.
    """
    row: dict[str, Any] = json.loads(line)
    row["trajectory_id"] += "-bad"
    match kind % 5:
        case 0:
            row["calls"] = []
        case 1:
            row["reward"] = float("nan")
        case 2:
            return json.dumps(row)[:-20]
        case 3:
            del row["ended_at"]
        case 4:
            row["ended_at"] = row["ended_at"].removesuffix("Z")
    return json.dumps(row)


def lines(trajectories: Iterator[Trajectory], count: int, bad_rows: int) -> Iterator[str]:
    """One JSON object a trajectory of ``count``, with ``bad_rows`` spoiled ones spread evenly among them."""
    for index, trajectory in enumerate(trajectories):
        line = trajectory.model_dump_json(exclude_none=True)
        yield line
        for kind in range(index * bad_rows // count, (index + 1) * bad_rows // count):
            yield spoil(line, kind)


def write(path: Path, rows: Iterator[str]) -> int:
    """Write all rows or nothing: a reader never meets half a file. Returns how many."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    written = 0
    try:
        with scratch.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(row + "\n")
                written += 1
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return written


def hour_from(text: str) -> datetime:
    """The hour that a command line names.

    Raises:
        argparse.ArgumentTypeError: it is not a UTC hour.
    """
    try:
        hour = parse(text).hour
    except MalformedWindow as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if hour is None:
        raise argparse.ArgumentTypeError(f"{text} is a round of a run; write a UTC hour such as 2025-01-15T10:00")
    return hour


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one hour of the careless agent's logs."""
    parser = argparse.ArgumentParser(prog="python -m environments.careless", description=main.__doc__)
    parser.add_argument("--episodes", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hour", type=hour_from, required=True, help="a UTC hour such as 2025-01-15T10:00")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bad-rows", type=int, default=0, help="rows to add that a source must quarantine")
    options = parser.parse_args(arguments)
    rows = lines(episodes(options.episodes, options.seed, options.hour), options.episodes, options.bad_rows)
    sys.stdout.write(f"{write(options.out, rows)} rows, {options.bad_rows} of them bad, in {options.out}\n")


if __name__ == "__main__":
    main()
