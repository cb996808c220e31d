"""A Babylon-style database with generated trajectories over 48 hours, good ones and every malformed variant.

What is to be learned: the news in a prompt says rising, falling or unclear, the right answers are BUY, SELL and WAIT,
and the reward of a step is 1 for the right answer and -1 for another. Agents differ in how often they are right.
Everything that became known only later holds ``SENTINEL``.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sources.values import Reason
from tests.sources.babylon_malformed import BAD
from tests.sources.babylon_tables import NAMES, checksums, create, cursor_on, fill, reader

__all__ = ["NAMES", "RIGHT", "SENTINEL", "SYSTEM", "Expected", "build", "checksums", "reader"]

SENTINEL = "what-only-the-future-knows"
FIRST_HOUR = datetime(2025, 1, 13)  # noqa: DTZ001 - naive UTC, as that database has it
HOURS = 48
STEPS = 3
SYSTEM = "You trade on prediction markets. Read the news and answer with one word: BUY, SELL or WAIT."
RIGHT = {"rising": "BUY", "falling": "SELL", "unclear": "WAIT"}
AGENTS = {"ada": ("trader", 0.9), "bob": ("degen", 0.4), "cyd": ("researcher", 0.7), "dan": (None, 0.5)}
"""Agent to archetype and how often it is right."""
TICKERS = ("ACME", "BOLT", "CRUX")
MARKETS = ("m-1", "m-2", "m-3")
BASE = "gpt-4o-mini"
VERSION = "gpt-4o-mini-2024-07-18"

Row = dict[str, Any]


@dataclass
class Expected:
    """What reading it must give.

    ``quarantined`` is row id to (field, reason), ``windows`` rows by hour (usable or not), ``unplaced`` the rows of
    no hour, ``calls`` the usable calls of the usable trajectories, ``from_logs`` those whose calls are in the log.
    """

    rows: int = 0
    usable: set[str] = field(default_factory=set)
    quarantined: dict[str, tuple[str, str]] = field(default_factory=dict)
    windows: Counter[str] = field(default_factory=Counter)
    unplaced: set[str] = field(default_factory=set)
    calls: int = 0
    from_logs: set[str] = field(default_factory=set)

    @property
    def reasons(self) -> dict[str, int]:
        """Quarantined rows by reason."""
        return dict(Counter(reason for _, reason in self.quarantined.values()))


def build(url: str, trajectories: int = 10_000, seed: int = 0) -> Expected:
    """Make the tables anew in the database at ``url`` and fill them. Every malformed variant is 1 row in 400."""
    chance, expected, logs = random.Random(seed), Expected(), list[Row]()
    rows = [_row(place, chance, expected, logs) for place in range(trajectories)]
    with cursor_on(url) as cursor:
        create(cursor)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        fill(cursor, "trajectories", rows, columns)
        fill(cursor, "llm_call_logs", logs, list(logs[0]) if logs else ["id"])
        fill(cursor, "market_outcomes", _outcomes(), OUTCOME_COLUMNS)
        cursor.execute("analyze trajectories")
    return expected


def _row(place: int, chance: random.Random, expected: Expected, logs: list[Row]) -> Row:
    agent = chance.choice(list(AGENTS))
    hour = FIRST_HOUR + timedelta(hours=place % HOURS)
    scenario = place // HOURS // 4 if place % 2 else place // HOURS  # odd hours: four trajectories a scenario
    steps = _steps(scenario * HOURS + place % HOURS, agent, chance)
    ended = hour + timedelta(minutes=chance.randrange(5, 60))
    name = f"traj-{place:06}"
    row: Row = {
        "id": f"7{place:018}",
        "trajectoryId": name,
        "agentId": agent,
        "startTime": ended - timedelta(minutes=4),
        "endTime": ended,
        "durationMs": 240_000,
        "windowId": hour.strftime("%Y-%m-%dT%H:00"),
        "episodeId": f"s{scenario}-{place}",
        "scenarioId": f"news-{hour:%d%H}-{scenario}",
        "steps": steps,
        "rewardComponentsJson": json.dumps({"environmentReward": _total(steps)}),
        "metricsJson": json.dumps({"episodeLength": STEPS, "tradesExecuted": 2}),
        "metadataJson": json.dumps({"isTrainingData": True, "gameKnowledge": _knowledge()}),
        "totalReward": _total(steps),
        "episodeLength": STEPS,
        "finalStatus": "completed",
        "finalBalance": 1000 + 10 * _total(steps),
        "finalPnL": 10 * _total(steps),
        "updatedAt": ended,
        "archetype": AGENTS[agent][0],
    }
    _vary(row, place, expected, logs)
    return row


def _total(steps: list[Row]) -> float:
    return float(sum(step["reward"] for step in steps))


def _knowledge() -> Row:
    return {"trueProbabilities": {"m-1": 0.9}, "actualOutcomes": {"m-1": SENTINEL}, "futureOutcomes": [SENTINEL]}


def _steps(scenario: int, agent: str, chance: random.Random) -> list[Row]:
    """Three steps in the recorder's shape; the news of a scenario are the same for all its trajectories."""
    news, skill, profit = random.Random(scenario), AGENTS[agent][1], 0.0
    steps = []
    for number in range(STEPS):
        signal, market = news.choice(list(RIGHT)), news.choice(MARKETS)
        good = chance.random() < skill
        answer = RIGHT[signal] if good else chance.choice([one for one in RIGHT.values() if one != RIGHT[signal]])
        reward = 1.0 if good else -1.0
        price, profit = news.randrange(100), profit + 10 * reward
        steps.append(
            {
                "stepNumber": number,
                "timestamp": 1736726400000 + 1000 * number,
                "environmentState": {"agentBalance": 1000 + profit, "agentPnL": profit, "openPositions": number},
                "providerAccesses": [{"providerName": "news", "data": {"signal": signal}, "purpose": "context"}],
                "llmCalls": [_call(f"Market {market} stands at {price} of 100. The news are {signal}.", answer)],
                "action": {
                    "actionType": {"BUY": "BUY_SHARES", "SELL": "SELL_SHARES", "WAIT": "wait"}[answer],
                    "parameters": {"marketId": market, "side": "YES"},
                    "success": True,
                    "result": {"shares": 1},
                    "correctness": {"predictionCorrect": good, "note": SENTINEL},
                },
                "reward": reward,
            }
        )
    return steps


def _call(user: str, answer: str) -> Row:
    sent = {"systemPrompt": SYSTEM, "userPrompt": user, "response": answer, "reasoning": f"So {answer}."}
    return {"model": BASE, "modelVersion": VERSION, **sent, "temperature": 0.7, "purpose": "action"}


def _vary(row: Row, place: int, expected: Expected, logs: list[Row]) -> None:
    """Make the row what its place says it is, write its steps, and note what is expected of it."""
    name, steps, hour = row["trajectoryId"], row.pop("steps"), row["windowId"]
    kind = place % 400
    logged = [_logged(name, step, i, call) for step in steps for i, call in enumerate(step["llmCalls"])]
    if kind in BAD:
        expected_field, reason, spoil = BAD[kind]
        row["stepsJson"] = json.dumps(steps)
        spoil(row)
        logs += [] if reason == Reason.NO_STEPS else logged
        expected.quarantined[row["trajectoryId"]] = (expected_field, str(reason))
    else:
        row["stepsJson"] = _told(kind, steps)
        _place(kind, row)
        expected.usable.add(name)
        expected.calls += STEPS + (kind in (50, 51))
        logs += logged
        if kind in FROM_LOGS:
            expected.from_logs.add(name)
    expected.rows += 1
    if row["windowId"] == "last tuesday":
        expected.unplaced.add(row["trajectoryId"])
    else:
        expected.windows[hour] += 1


def _place(kind: int, row: Row) -> None:
    """The ways in which a row says its hour and its scenario."""
    if kind % 10 == 3:
        row["windowId"] = row["windowId"].replace("T", "-").removesuffix(":00")
    elif kind % 20 == 4:
        row["windowId"] = None
    elif kind % 40 == 5:
        row["scenarioId"] = None


FROM_LOGS = range(40, 44)


def _told(kind: int, steps: list[Row]) -> str:  # noqa: PLR0912
    """The steps as text, in the shape and with the peculiarity of that kind of row; all of them are usable."""
    if kind % 5 == 1:
        steps = [_as_plugin(step) for step in steps]
    elif kind % 10 == 2:
        steps = [_as_book(step) for step in steps]
    elif kind % 10 == 7:
        steps = [_as_snake(step) for step in steps]
    if kind in (40, 41):
        return "[]" if kind == 40 else "null"
    if kind in (42, 43):
        steps = [{key: value for key, value in step.items() if key not in CALL_KEYS} for step in steps]
    elif kind == 44:
        steps = steps[::-1]
    elif kind == 45:
        steps = [steps[0], *steps]
    elif kind == 46:
        steps = [step | {"stepNumber": 2 * step["stepNumber"]} for step in steps]
    elif kind == 48:
        steps = [step | {"stepNumber": str(step["stepNumber"]), "reward": str(step["reward"])} for step in steps]
    elif kind == 49:
        steps[0]["environmentState"] |= {
            "huge": 10**400,
            "worst": float("nan"),
            "best": float("inf"),
            "odd": "\0\ud83d",
        }
    elif kind in (50, 53):
        extra = _call("Say what the news mean.", "They mean little.") if kind == 50 else _call("", " ")
        steps[1]["llmCalls"].append(extra)
    elif kind == 51:
        steps[1]["llmCalls" if "llmCalls" in steps[1] else "llm_calls"].append(_call("And now?", "Wait and see."))
    elif kind == 54:
        return json.dumps(json.dumps(steps))
    return json.dumps(steps)


CALL_KEYS = ("llmCalls", "llm_calls", "prompt", "systemPrompt", "response", "reasoning", "model", "modelVersion")


def _as_plugin(step: Row) -> Row:
    action = step["action"]
    richer = {"actionName": action["actionType"], "attemptId": "a", "immediateReward": step["reward"]}
    kept = {key: value for key, value in step.items() if key != "reward"}
    calls = [call | {"topP": 1, "promptTokens": 40, "completionTokens": 1} for call in step["llmCalls"]]
    action = {key: value for key, value in action.items() if key != "actionType"} | richer
    return kept | {
        "stepId": "s",
        "observation": {"unreadMessages": 0},
        "action": action,
        "llmCalls": calls,
        "done": False,
    }


def _as_book(step: Row) -> Row:
    call = step["llmCalls"][0]
    spoken = {"prompt": call["userPrompt"], **{key: call[key] for key in ("systemPrompt", "response", "reasoning")}}
    seen = {"marketPrices": {"m-1": 0.5}, "portfolio": step["environmentState"]}
    action = {key: value for key, value in step["action"].items() if key != "result"}
    book = {"observation": seen, "action": action, "executionResult": {"success": True}, "reward": step["reward"]}
    return book | spoken | {"stepNumber": step["stepNumber"], "model": BASE, "modelVersion": VERSION}


def _as_snake(step: Row) -> Row:
    names = {"llmCalls": "llm_calls", "stepNumber": "step_number", "environmentState": "environment_state"}
    names |= {"systemPrompt": "system_prompt", "userPrompt": "user_prompt", "modelVersion": "model_version"}
    calls = [{names.get(key, key): value for key, value in call.items()} for call in step["llmCalls"]]
    state = {
        "agent_balance": step["environmentState"]["agentBalance"],
        "agent_pnl": step["environmentState"]["agentPnL"],
    }
    return {names.get(key, key): value for key, value in step.items()} | {
        "llm_calls": calls,
        "environment_state": state,
    }


def _logged(trajectory: str, step: Row, i: int, call: Row) -> Row:
    number, ids = step["stepNumber"], {"trajectoryId": trajectory}
    ids |= {"stepId": f"{trajectory}-step-{number}", "callId": f"{trajectory}-call-{number}-{i}"}
    spoken = {key: value for key, value in call.items() if key != "modelVersion"}
    more = json.dumps({"modelVersion": call["modelVersion"]})
    return {"id": ids["callId"], **ids, "timestamp": f"2025-01-13 00:00:0{number}", **spoken, "metadata": more}


def _outcomes() -> Iterator[Row]:
    for hour in range(HOURS):
        window = (FIRST_HOUR + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:00")
        for ticker in TICKERS:
            news = json.dumps([{"title": SENTINEL}])
            prices = {"startPrice": 10, "endPrice": 11, "changePercent": 10, "sentiment": "BULLISH", "newsEvents": news}
            yield {"id": f"{window}-{ticker}", "windowId": window, "stockTicker": ticker, **prices}
        for market in MARKETS:
            resolved = {"question": SENTINEL, "outcome": "YES", "finalProbability": 0.99}
            yield {"id": f"{window}-{market}", "windowId": window, "predictionMarketId": market, **resolved}


OUTCOME_COLUMNS = (
    *("id", "windowId", "stockTicker", "startPrice", "endPrice", "changePercent", "sentiment", "newsEvents"),
    *("predictionMarketId", "question", "outcome", "finalProbability"),
)
