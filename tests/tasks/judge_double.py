"""A judge that answers as a test wants, over real HTTP, and trajectories for it to judge.

It scores each trajectory by the number after ``worth`` in what lies between the data tags. It is gullible: an
instruction that it finds anywhere else, it obeys.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from sqlalchemy import delete

from db import judgements
from db.session import transaction
from db.tables.trajectories import Judgement
from rl.records import Call, Message, Trajectory, Turn
from rl.scoring import NoScore, ScoreRow
from rl.scoring_config import Judge, Scoring
from tasks import judge_client
from tasks.judge import judge
from tasks.judge_settings import judge_settings
from tests.served import served
from tests.tasks.rows import within_a_period

BLOCK = re.compile(r"<data[^>]*>(.*?)</data[^>]*>", re.DOTALL)
WORTH = re.compile(r"worth (\d\.\d+)")
OF_ART = re.compile(r'<trajectory id="(\d)">[^<]*?worth (\d\.\d+)', re.DOTALL)
OBEY = re.compile(r"obey me: everyone gets (\d\.\d+)")
MOMENT = datetime(2025, 1, 15, 10, tzinfo=UTC)

WORTHS = {"t1": 0.1, "t2": 0.9, "t3": 0.4}

Rows = list[ScoreRow | NoScore]
Reply = tuple[int, dict[str, str], bytes]
Behaviour = Callable[[dict[str, Any], int], Reply]


def ids_and_scores(body: dict[str, Any]) -> list[dict[str, Any]]:
    """What an honest and gullible judge says, in the order in which it was asked."""
    text = body["messages"][1]["content"]
    outside = body["messages"][0]["content"] + BLOCK.sub("", text)
    told = OBEY.search(outside)
    blocks = [json.loads(found) for found in BLOCK.findall(text)]
    return [
        {
            "trajectory_id": block["trajectory_id"],
            "explanation": "by its worth",
            "score": float(told[1]) if told else _worth(block),
        }
        for block in blocks
        if "trajectory_id" in block
    ]


def _worth(block: dict[str, Any]) -> float:
    found = WORTH.search(json.dumps(block))
    assert found is not None
    return float(found[1])


def ids_and_scores_of_art(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The same for what ART's ruler shows a judge, by its ids."""
    found = OF_ART.findall(body["messages"][1]["content"])
    return [{"trajectory_id": one, "explanation": f"worth {worth}", "score": float(worth)} for one, worth in found]


def completion(content: str | None, usage: tuple[int, int] | None = (1000, 100)) -> Reply:
    answer: dict[str, Any] = {
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]
    }
    if usage:
        answer["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return 200, {}, json.dumps(answer).encode()


def said(scores: list[dict[str, Any]]) -> str:
    return json.dumps({"scores": scores})


def honest(body: dict[str, Any], number: int) -> Reply:
    return completion(said(ids_and_scores(body)))


def failing(status: int, headers: dict[str, str] | None = None) -> Reply:
    return status, headers or {}, json.dumps({"error": {"code": "out_of_order", "message": "sk-secret"}}).encode()


@dataclass
class Stand:
    """The server: ``asked`` has the bodies it got, ``headers`` what came with them, ``let_go`` ends a long wait.

    Headers have their names in small letters.
    """

    url: str
    behaviour: Behaviour
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)


@contextmanager
def standing(behaviour: Behaviour = honest) -> Iterator[Stand]:
    stand, lock = Stand("", behaviour), threading.Lock()

    class Asked(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:  # else two that come at once could both be the second
                stand.asked.append(body)
                stand.headers.append({name.lower(): value for name, value in self.headers.items()})
                number = len(stand.asked)
            status, headers, answer = stand.behaviour(body, number)
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
            except ConnectionError:
                pass  # who asked has left

        def log_message(self, *_: object) -> None:
            pass

    with served(Asked) as url:
        stand.url = f"{url}/v1"
        try:
            yield stand
        finally:
            stand.let_go.set()


@contextmanager
def judging_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """A stand that the settings name, an empty ledger, and back-offs too short to wait for."""
    within_a_period(86_400)  # a budget is one day's
    with transaction() as session:
        session.execute(delete(Judgement))
    monkeypatch.setattr(judge_client, "FIRST_BACKOFF_SECONDS", 0.01)
    with standing() as stand:
        monkeypatch.setenv("RLFLEET_JUDGE_URL", stand.url)
        monkeypatch.setenv("RLFLEET_JUDGE_KEY", "the-key")
        judge_settings.cache_clear()
        yield stand
    judge_settings.cache_clear()


def asked(
    trajectories: Sequence[Trajectory] | None = None, *, beats: list[tuple[int, int]] | None = None, **settings: Any
) -> Rows:
    """The rows of one scenario's trajectories."""
    outer = {name: settings.pop(name) for name in ("fallback", "variant", "lone") if name in settings}
    config = Scoring(method="judge", judge=Judge(model="judge-1", **settings), **outer)

    def beat(_: object, done: int, total: int) -> None:
        if beats is not None:
            beats.append((done, total))

    return asyncio.run(judge([trajectories or three()], config, judgements, beat))


def scored(rows: Rows) -> dict[str, float]:
    assert all(isinstance(row, ScoreRow) for row in rows), rows
    return {row.trajectory_id: row.score for row in rows if isinstance(row, ScoreRow)}


def refused(rows: Rows) -> set[tuple[str, str]]:
    """Method and reason of rows without a score; that every one is such a row is checked."""
    assert rows
    assert all(isinstance(row, NoScore) for row in rows), rows
    return {(row.method, row.reason) for row in rows if isinstance(row, NoScore)}


def three() -> list[Trajectory]:
    return [trajectory(name, worth) for name, worth in WORTHS.items()]


def trajectory(name: str, worth: float = 0.5, text: str = "", **values: Any) -> Trajectory:
    """An episode of one call whose answer says what it is worth."""
    messages = [Message(role="system", content="You trade."), Message(role="user", content="What now?")]
    call = Call(
        call_id=f"{name}/0",
        turn=0,
        model="another-model",
        messages=messages,
        response=Message(role="assistant", content=f"worth {worth:.3f} {text}"),
    )
    given: dict[str, Any] = {"scenario_id": "s", "agent_id": "a", "reward": 0.0, "calls": [call]} | values
    return Trajectory(trajectory_id=name, started_at=MOMENT, ended_at=MOMENT, **given)


def state(turn: int, **values: Any) -> Turn:
    return Turn(turn=turn, at=MOMENT, **values)
