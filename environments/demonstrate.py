r"""Demonstrations: episodes of an environment's oracle on training scenarios, as a log that a line can learn from.

    python -m environments.demonstrate --environment sat-small --scenarios 2000 --prefix sat \
        --hour 2025-01-15T10:00 --out demonstrations.jsonl

Scenarios are played in parts by several processes. A part is a file beside ``--out`` that is there whole or not at all,
so that what was stopped or killed goes on where it was when the same is asked for again. Every episode is kept, with
the reward that it earned.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.context import SpawnProcess
from multiprocessing.process import parent_process
from pathlib import Path
from typing import Any

import environments
from environments.careless import hour_from, write
from environments.scripted import converse, policy
from rl.config import digest
from rl.errors import InvalidInput, RlfleetError
from rl.records import Call, ScenarioRef, Trajectory

MODEL = "oracle"
PART = 50
"""Scenarios a part: what is lost at most, for each process, when it is killed."""
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Order:
    """What is to be demonstrated: ``count`` train scenarios of ``environment`` from ``first_seed`` on.

    Ids begin with ``prefix``; the episodes end evenly spread over the ``hour`` (aware).
    """

    environment: str
    first_seed: int
    count: int
    prefix: str
    hour: datetime


def demonstrate(order: Order, place: int) -> Trajectory:
    """The oracle's episode on the scenario at ``place``; the same arguments give the same trajectory, ids included."""
    environment = environments.load(order.environment)
    ref = ScenarioRef(environment=order.environment, split="train", seed=order.first_seed + place)
    played = converse(environment, ref, policy("oracle", ref))
    trajectory_id = f"{order.prefix}/demonstration/{ref.seed}"
    ended_at = order.hour + timedelta(hours=1) / (order.count + 1) * (place + 1)
    tools = [dict(tool) for tool in played.tools] or None
    return Trajectory(
        trajectory_id=trajectory_id,
        scenario_id=ref.id,
        agent_id=MODEL,
        started_at=max(order.hour, ended_at - timedelta(seconds=len(played.turns))),
        ended_at=ended_at,
        reward=played.reward,
        calls=[
            Call(
                call_id=f"{trajectory_id}/{turn}",
                turn=turn,
                model=MODEL,
                messages=spoken.read,
                response=spoken.reply,
                finish_reason="tool_calls" if spoken.reply.tool_calls else "stop",
                tools=tools,
            )
            for turn, spoken in enumerate(played.turns)
        ],
        metadata={"truncated": played.truncated, "content_hash": played.content_hash, "type": played.kind},
    )


def write_all(order: Order, out: Path, processes: int) -> Iterator[int]:
    """Play what no part holds yet and write ``out``; yields how many are done, now and then.

    Raises:
        InvalidInput: the train split has fewer scenarios.
        RlfleetError: a process of it failed; what it said is on stderr.
    """
    parts = _folder_of(order, out)
    _check_size(order)
    parts.mkdir(mode=0o700, parents=True, exist_ok=True)
    places = [place for place in range(0, order.count, PART) if not _part(parts, place).exists()]
    before = order.count - sum(min(PART, order.count - place) for place in places)
    yield before
    for done in _played(order, parts, places, processes):
        yield before + done
    write(out, (row for place in range(0, order.count, PART) for row in _rows(_part(parts, place))))
    shutil.rmtree(parts)


def _check_size(order: Order) -> None:
    there = environments.load(order.environment).scenarios("train")
    if there is not None and order.first_seed + order.count > there:
        remedy = f"{order.environment} has {there} train scenarios; with first_seed = {order.first_seed} take fewer"
        raise InvalidInput("demonstrations.scenarios", order.count, remedy)


def _folder_of(order: Order, out: Path) -> Path:
    """Where the order's parts lie; those of another are not its."""
    said = digest(order.environment, order.first_seed, order.count, order.prefix, order.hour.isoformat())
    return out.with_name(f"{out.name}.{said[:12]}.parts")


def _part(parts: Path, place: int) -> Path:
    return parts / f"{place:08d}.jsonl"


def _rows(part: Path) -> Iterator[str]:
    with part.open(encoding="utf-8") as lines:
        yield from (line.rstrip("\n") for line in lines)


def _played(order: Order, parts: Path, places: Sequence[int], processes: int) -> Iterator[int]:
    """Have so many processes play the parts; yields how many episodes they have played."""
    start = multiprocessing.get_context("spawn")
    done = start.Value("i", 0)
    shares = [places[first::processes] for first in range(processes) if places[first::processes]]
    workers = [start.Process(target=_work, args=(order, parts, share, done), daemon=True) for share in shares]
    for worker in workers:
        worker.start()
    failed = 0
    while not failed and any(worker.is_alive() for worker in workers):
        time.sleep(POLL_SECONDS)
        failed = _failed(workers)
        yield int(done.value)
    for worker in workers:
        if failed:
            worker.terminate()
        worker.join()
    if failed := failed or _failed(workers):
        raise RlfleetError(f"a process that plays {order.environment} ended with {failed}")


def _failed(workers: Sequence[SpawnProcess]) -> int:
    """How the first that failed has ended; 0 while none has."""
    return next((worker.exitcode for worker in workers if worker.exitcode), 0)


def _work(order: Order, parts: Path, places: Sequence[int], done: Any) -> None:
    """Play some parts, for as long as whoever asked lives."""
    try:
        for place in places:
            write(_part(parts, place), (_counted(order, at, done) for at in _of_part(order, place)))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (RlfleetError, OSError) as error:
        raise _ended(error) from None


def _ended(error: RlfleetError | OSError) -> SystemExit:
    """Say what went wrong; a disk that is full is one of the things that do."""
    words = f"{error.filename or 'the log'}: {error.strerror or error}" if isinstance(error, OSError) else error
    sys.stderr.write(f"environments.demonstrate: {words}\n")
    return SystemExit(2 if isinstance(error, InvalidInput) else 1)


def _of_part(order: Order, place: int) -> range:
    return range(place, min(place + PART, order.count))


def _counted(order: Order, place: int, done: Any) -> str:
    asking = parent_process()
    if asking is not None and not asking.is_alive():
        raise SystemExit(1)
    row = demonstrate(order, place).model_dump_json(exclude_none=True)
    with done.get_lock():
        done.value += 1
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the oracle's episodes on training scenarios; says how many are done on stdout, such as ``50/2000``."""
    parser = argparse.ArgumentParser(prog="python -m environments.demonstrate", description=main.__doc__)
    parser.add_argument("--environment", required=True)
    parser.add_argument("--scenarios", type=int, required=True)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--prefix", required=True, help="what the ids begin with")
    parser.add_argument("--hour", type=hour_from, required=True, help="a UTC hour such as 2025-01-15T10:00")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    order = Order(options.environment, options.first_seed, options.scenarios, options.prefix, options.hour)
    try:
        for done in write_all(order, options.out, max(1, options.processes)):
            sys.stdout.write(f"{done}/{order.count}\n")
            sys.stdout.flush()
    except (RlfleetError, OSError) as error:
        raise _ended(error) from None


if __name__ == "__main__":
    main()
