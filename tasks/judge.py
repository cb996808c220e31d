"""Scores that come from comparing the trajectories of a scenario: our own judge, or ART's RULER.

A group has scores of one method or none. What a judge did not say is never a 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rl.config import digest
from rl.errors import InvalidInput, InvalidRow
from rl.judging import VERSION, Group, View, split
from rl.redaction import Redaction
from rl.scoring import Chance, NoScore, ScoreRow, heuristic_rows
from rl.scoring_config import Judge, Scoring
from tasks.judge_client import Failure, JudgeClient, Judged, Ledger
from tasks.judge_settings import judge_settings

if TYPE_CHECKING:
    from rl.records import Trajectory

NO_CONSENT = "its owner did not consent to being learned from, so it is shown to no judge"
NOTHING = Redaction()
Rows = list[ScoreRow | NoScore]
Beat = Callable[[object, int, int], None]


async def judge(
    groups: Sequence[Sequence[Trajectory]],
    config: Scoring,
    ledger: Ledger,
    beat: Beat,
    *,
    redaction: Redaction = NOTHING,
) -> Rows:
    """A row or the reason for none of every trajectory; each of ``groups`` is one scenario's.

    ``beat(_, done, total)`` is called after each judged group; what it raises stops the judging. The judge sees what
    ``redaction`` leaves: what was stored before the line had one is redacted here.

    Raises:
        InvalidInput: the config has no judge.
        InvalidSettings: RLFLEET_JUDGE_URL is not set, or the redaction's hook is not there.
        DatabaseUnavailable: the ledger cannot be read or written.
    """
    if config.judge is None or not config.is_judged:
        raise InvalidInput("scoring.method", config.method, "this method needs no judge; ask rl.scoring.scores")
    rows: Rows = []
    asked: list[tuple[Group, list[Trajectory]]] = []
    for members in groups:
        willing, withheld = await asyncio.to_thread(_shown, members, redaction)
        rows += [NoScore(key, config.method, reason) for key, reason in withheld.items()]
        several, lone = split(willing, config.judge, config.method)
        by_id = {one.trajectory_id: one for one in willing}
        asked += [(group, [by_id[one] for one in group.ids]) for group in several]
        rows += _lone(lone, by_id, config)
    if asked:
        ask = _ruled if config.method == "ruler" else _judged
        found = await ask([group for group, _ in asked], config.judge, ledger, beat)
        for (group, members), outcome in zip(asked, found, strict=True):
            rows += _rows(group, members, outcome, config)
    return rows


def _shown(members: Iterable[Trajectory], redaction: Redaction) -> tuple[list[Trajectory], dict[str, str]]:
    """What a judge may see of them, and by trajectory why nothing of it."""
    from db.redacting import clean

    willing, withheld = [], {}
    for one in members:
        if one.consent is False:
            withheld[one.trajectory_id] = NO_CONSENT
            continue
        try:
            willing.append(clean(one, redaction)[0])
        except InvalidRow as error:
            withheld[one.trajectory_id] = f"it is shown to no judge: {error.remedy}"
    return willing, withheld


async def _judged(groups: Sequence[Group], setting: Judge, ledger: Ledger, beat: Beat) -> list[Judged | Failure]:
    url, key = judge_settings().where()
    async with JudgeClient(url, key, setting, ledger) as client:
        return await _all([client.judged(group) for group in groups], beat)


async def _ruled(groups: Sequence[Group], setting: Judge, ledger: Ledger, beat: Beat) -> list[Judged | Failure]:
    from tasks.judge_ruler import ruled

    url, key = judge_settings().where()
    return await ruled(groups, setting, ledger, beat, url=url, key=key)


async def _all(work: Sequence[Awaitable[Judged | Failure]], beat: Beat) -> list[Judged | Failure]:
    """Every outcome, in order. The first that raises, or a beat that does, cancels the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        for done, one in enumerate(asyncio.as_completed(tasks), 1):
            await one
            beat(None, done, len(tasks))
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _rows(group: Group, members: Sequence[Trajectory], outcome: Judged | Failure, config: Scoring) -> Rows:
    if isinstance(outcome, Failure):
        return _unjudged(members, outcome.reason, config, outcome.chance)
    return [
        ScoreRow(
            trajectory_id,
            config.method,
            VERSION,
            digest(trajectory_id, group.sha256),
            outcome.verdicts[view.sha256].score,
            rubric_hash=group.rubric_hash,
            judge=config.judge.model if config.judge else None,
            cost=outcome.cost / len(members),
            explanation=outcome.verdicts[view.sha256].explanation,
            compared_in=group.sha256,
        )
        for view in group.views
        for trajectory_id in view.ids
    ]


def _lone(views: Iterable[View], by_id: dict[str, Any], config: Scoring) -> Rows:
    """Those of a scenario that has too few different trajectories to compare."""
    members = [by_id[one] for view in views for one in view.ids]
    least = config.judge.group_min if config.judge else 0
    if config.lone_rule == "skip":
        reason = f"its scenario has less than {least} different trajectories, and scoring.lone = skip"
        return [NoScore(one.trajectory_id, config.method, reason) for one in members]
    return _unjudged(members, f"its scenario has less than {least} different trajectories", config)


def _unjudged(members: Sequence[Trajectory], reason: str, config: Scoring, chance: Chance | None = None) -> Rows:
    """No score for any of them; or where the config says so, the heuristic's for all of them, or for none."""
    if config.fallback is None or config.variant is None:
        return [NoScore(one.trajectory_id, config.method, reason, chance) for one in members]
    rows = heuristic_rows(members, config.variant, f"in place of {config.method}, which gave no score ({reason})")
    if all(isinstance(row, ScoreRow) for row in rows):
        return rows
    without = next(row for row in rows if isinstance(row, NoScore))
    both = f"{reason}; and no heuristic for the whole group: {without.reason}"
    return [NoScore(one.trajectory_id, config.method, both, chance) for one in members]
