"""Datasets to read: calls of made-up chats with tokens, so many in each trajectory, frozen for a job of their own."""

from __future__ import annotations

import json
import random
from array import array
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import datasets, dispatch, lines, trajectories, windows
from db.session import transaction
from rl.config import LineConfig
from rl.records import Trajectory
from rl.windows import parse

LINE, HOUR = "collect", "2025-01-15T{:02}:00"
CALLS_EACH = 8
POOL = 400
"""Different bodies; calls take them in turns."""
PROMPT_TOKENS, TOKENS = 900, 64
LARGE_SHARE, LARGE_TIMES = 0.02, 30
"""Of uneven rows, the share of trajectories at the end whose calls hold so many times as much."""


@dataclass(frozen=True)
class Filled:
    """A frozen dataset, and how many calls and trajectories it has."""

    dataset_id: int
    window_id: int
    calls: int

    @property
    def trajectories(self) -> int:
        """Each has as many calls."""
        return self.calls // CALLS_EACH


def fill(calls: int, hour: int, seed: int, *, is_uneven: bool = False) -> Filled:
    """A window of that hour with so many calls, and a dataset of it. Every other trajectory has tokens."""
    with transaction() as session:
        line_id = lines.put(session, LINE, LineConfig(base_model="no-model", automatic=False))
        window = windows.ensure(session, line_id, parse(HOUR.format(hour)), state="scored")
        found = [_trajectory(hour, number) for number in range(calls // CALLS_EACH)]
        for some in range(0, len(found), 1_000):
            trajectories.insert_trajectories(session, line_id, window, "bench", found[some : some + 1_000])
        _pool(session, seed)
        large = round(len(found) * LARGE_SHARE) if is_uneven else 0
        first_large = _name(hour, len(found) - large)
        values = {"window": window, "each": CALLS_EACH, "pool": POOL, "first_large": first_large}
        session.execute(CALLS, values)
        job_id = dispatch.request(session, dispatch.Spec("train", line_id, {"hour": hour}, {}, "gpu"))
        rows = [
            trajectories.Scored(one.trajectory_id, HOUR.format(hour), one.scenario_id, one.reward, one.reward)
            for one in found
        ]
        dataset_id = datasets.freeze(session, line_id, job_id, [window], rows, {}).id
    with transaction() as session:
        session.execute(text("analyze rlfleet.calls, rlfleet.trajectory_keys, rlfleet.dataset_trajectories"))
    return Filled(dataset_id, window, calls)


def _name(hour: int, number: int) -> str:
    return f"{hour:02}-{number:06}"


def _trajectory(hour: int, number: int) -> Trajectory:
    moment = parse(HOUR.format(hour)).hour
    return Trajectory(
        trajectory_id=_name(hour, number),
        scenario_id=f"scenario-{number // 8:05}",
        agent_id="bench",
        started_at=moment,
        ended_at=moment,
        reward=(number % 8) / 8,
        calls=[],
    )


def _pool(session: Session, seed: int) -> None:
    """Bodies and tokens, in a table of this transaction; after ``POOL`` a large one for each turn."""
    session.execute(
        text("create temporary table pool (n int, body json, prompt bytea, said bytea, logprobs bytea) on commit drop")
    )
    chance = random.Random(seed)
    words = [f"w{number}" for number in range(5_000)] + ['say "so"\n', "naïve", "日本", "ok"]
    session.execute(
        text("insert into pool values (:n, :body, :prompt, :said, :logprobs)"),
        [
            {
                "n": number,
                "body": json.dumps(_body(chance, words, 1 if number < POOL else LARGE_TIMES), ensure_ascii=False),
                "prompt": _packed("i", [chance.randrange(150_000) for _ in range(PROMPT_TOKENS)]),
                "said": _packed("i", [chance.randrange(150_000) for _ in range(TOKENS)]),
                "logprobs": _packed("f", [-chance.expovariate(2) for _ in range(TOKENS)]),
            }
            for number in range(POOL + CALLS_EACH)
        ],
    )


def _body(chance: random.Random, words: list[str], times: int) -> dict[str, Any]:
    def message(role: str, count: int) -> dict[str, str]:
        return {"role": role, "content": " ".join(chance.choices(words, k=count))}

    turns = [message(role, count) for _ in range(5 * times) for role, count in (("user", 60), ("assistant", 40))]
    return {"messages": [message("system", 120), *turns, message("user", 60)], "response": message("assistant", 40)}


def _packed(kind: str, values: list[Any]) -> bytes:
    packed: array[Any] = array(kind, values)
    packed.byteswap()
    return packed.tobytes()


CALLS = text("""
    insert into rlfleet.calls (trajectory_id, turn, call_id, at, line, model, body, prompt_token_ids, token_ids,
                               logprobs, temperature, finish_reason)
    select t.trajectory_id, turn, t.trajectory_id || '/' || turn, t.at, 'collect', 'v1', p.body,
           case when own then p.prompt end, case when own then p.said end,
           case when own then p.logprobs end, 1.0, 'stop'
      from rlfleet.trajectories t cross join generate_series(0, :each - 1) turn
      cross join lateral (select cast(right(t.trajectory_id, 1) as int) % 2 = 0 as own) tokens
      join pool p on p.n = case when t.trajectory_id collate "C" < :first_large
                                then abs(hashtext(t.trajectory_id) + 31 * turn) % :pool else :pool + turn end
     where t.window_id = :window order by t.trajectory_id, turn
""")
