"""What judging costs: answers that are kept, a budget that holds, a pace that is kept to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from db import judgements
from rl.scoring_config import Judge
from tasks import judge_client
from tasks.judge_client import JudgeClient
from tests.tasks.judge_double import (
    WORTHS,
    Stand,
    asked,
    completion,
    failing,
    ids_and_scores,
    judging_here,
    refused,
    said,
    scored,
    three,
)


@pytest.fixture
def stand(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with judging_here(monkeypatch) as one:
        yield one


def test_a_kept_answer_needs_no_judge(stand: Stand) -> None:
    first = asked()
    stand.behaviour = lambda *_: failing(500)
    assert asked(three()[::-1]) == first
    assert len(stand.asked) == 1
    with_another_seed = asked(seed=1, attempts=1)
    refused(with_another_seed)


def test_an_exhausted_budget_asks_nothing_and_says_so(stand: Stand) -> None:
    prices = {"prompt_price": 1.0, "completion_price": 1.0, "max_tokens": 1000}
    [(_, why)] = refused(asked(daily_budget=0.000_5, **prices))
    assert "the daily budget of 0.0005 for judge-1 has no room" in why
    assert stand.asked == []
    assert judgements.spent_today("judge-1") == 0
    assert scored(asked(daily_budget=1.0, **prices)) == WORTHS


def test_answers_that_nobody_can_use_count_against_the_budget(stand: Stand) -> None:
    stand.behaviour = lambda *_: completion("no", usage=(1_000_000, 0))
    [(_, why)] = refused(asked(daily_budget=2.5, prompt_price=1.0, answers=10))
    assert "has no room" in why
    assert len(stand.asked) == 3
    assert judgements.spent_today("judge-1") == pytest.approx(3.0)


def test_a_call_whose_cost_nobody_says_counts_at_its_most(stand: Stand) -> None:
    stand.behaviour = lambda body, _: completion(said(ids_and_scores(body)), usage=None)
    asked(completion_price=1.0, max_tokens=500_000)
    assert judgements.spent_today("judge-1") == pytest.approx(0.5)


def test_requests_keep_to_their_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def slept(seconds: float) -> None:
        waits.append(seconds)

    async def paced() -> None:
        async with JudgeClient(
            "http://127.0.0.1:9", "", Judge(model="m", requests_per_minute=30), judgements
        ) as client:
            monkeypatch.setattr(judge_client.time, "monotonic", lambda: 100.0)
            monkeypatch.setattr(judge_client.asyncio, "sleep", slept)
            for _ in range(3):
                await client._pace()

    asyncio.run(paced())
    assert waits == [0.0, 2.0, 4.0]
