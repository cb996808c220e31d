"""What needs no database: heuristic scores of trajectories, and sequences packed into bins."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gpu.bins import pack
from rl.heuristics import heuristic_scores
from rl.records import Action, Call, Message, Sequence, Trajectory, Turn

TURNS = 10
GROUP, PROMPT, ANSWER = 8, 400, 200
BUDGET = 8_192
MOMENT = datetime(2025, 1, 15, 10, tzinfo=UTC)


def measure(trajectories: int, groups: int, rounds: int, seed: int) -> dict[str, Any]:
    """Trajectories scored by the ``archetype`` heuristic in a second, and tokens packed; CPU seconds, medians."""
    chance = random.Random(seed)
    played = [trajectory(chance, number) for number in range(trajectories)]
    sampled = [group(chance, number) for number in range(groups)]
    tokens = sum(len(one.ids) for some in sampled for one in some)
    scoring = _median(lambda: heuristic_scores(played, "archetype"), rounds)
    packing = _median(lambda: pack(sampled, BUDGET), rounds)
    return {
        "heuristic_per_second": round(trajectories / scoring, 1),
        "heuristic_trajectories": trajectories,
        "bins_tokens_per_second": round(tokens / packing),
        "bins_tokens": tokens,
    }


def _median(work: Callable[[], object], rounds: int) -> float:
    def timed() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return statistics.median(timed() for _ in range(rounds))


def trajectory(chance: random.Random, number: int) -> Trajectory:
    """Ten turns of a trader, with a call in each."""
    turns, calls, money = [], [], 1_000.0
    for place in range(TURNS):
        kind = chance.choice(["BUY_SHARES", "SELL_SHARES", "CREATE_POST", "wait"])
        state = {"agentBalance": money, "agentPnL": money - 1_000, "openPositions": chance.randint(0, 5)}
        action = Action(kind=kind, parameters={"marketId": "m1", "amount": 50}, success=chance.random() < 0.9)
        turns.append(Turn(turn=place, state=state, action=action, reward=chance.uniform(-1, 1)))
        calls.append(_call(chance, number, place, kind))
        money *= chance.uniform(0.98, 1.03)
    return Trajectory(
        trajectory_id=f"t{number}",
        scenario_id="s",
        agent_id=f"a{number % 10}",
        started_at=MOMENT,
        ended_at=MOMENT,
        reward=money - 1_000,
        calls=calls,
        turns=turns,
        archetype="trader",
    )


def _call(chance: random.Random, number: int, place: int, kind: str) -> Call:
    thought = " ".join(chance.choices(["the market", "price", "risk", "therefore", "because", "odds"], k=40))
    answer = f'{{"action": "{kind}", "parameters": {{"marketId": "m1", "amount": 50}}}}'
    response = Message(role="assistant", content=answer, reasoning_content=thought)
    asked = [Message(role="user", content="What do you do?")]
    return Call(call_id=f"{number}/{place}", turn=place, model="m", messages=asked, response=response)


def group(chance: random.Random, number: int) -> list[Sequence]:
    """Eight answers to one prompt."""
    prompt = [chance.randrange(150_000) for _ in range(PROMPT)]
    return [_sequence(chance, prompt, GROUP * number + index) for index in range(GROUP)]


def _sequence(chance: random.Random, prompt: list[int], episode: int) -> Sequence:
    answer = [chance.randrange(150_000) for _ in range(chance.randint(ANSWER // 4, ANSWER))]
    ids, spoken = prompt + answer, len(answer)
    mask = [0] * len(prompt) + [1] * spoken
    return Sequence(episode=episode, ids=ids, mask=mask, logprobs=[0.0] * len(prompt) + [-0.5] * spoken)
