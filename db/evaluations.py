"""Evaluations: shards of verdicts that are stored once, what they add up to, and two versions side by side.

A shard belongs to its checkpoint's hash, so versions with equal weights are evaluated once. What is stored stays: only
verdicts that were missing are filled in later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.jobs import Claim
from db.results import ONCE
from db.tables import Checkpoint, Evaluation, Verdict, Version
from rl.config import TaskSet, digest
from rl.errors import InvalidInput, TransientError
from rl.evaluating import Shard
from rl.held_out import LoggedSet
from rl.line_state import AnySet, Result
from rl.records import ids_sha256
from rl.selection import MIN_COVERAGE
from rl.verdicts import Scores, Verdicts

__all__ = ["Result", "Shard", "asked_for", "checkpoint_of", "compared", "store", "stored"]


def checkpoint_of(session: Session, version: Version, step: int | None = None) -> Checkpoint:
    """The version's checkpoint, or the one that its training wrote at ``step``.

    Raises:
        InvalidInput: it wrote none there, or it was removed since.
    """
    mine = Checkpoint.id == version.checkpoint_id
    query = select(Checkpoint).where(mine if step is None else Checkpoint.job_id == version.job_id)
    found = session.scalars(query if step is None else query.where(Checkpoint.step == step)).one_or_none()
    if found is None:
        raise InvalidInput("step", step, f"the training of {version.name} wrote no checkpoint at this step")
    if found.removed_at is not None:
        raise InvalidInput("step", found.step, f"retention removed this checkpoint of {version.name}")
    return found


def asked_for(session: Session, version: Version, inputs: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of the version that a job's inputs name: that of their ``step``, without one the last.

    It is not the one that the version stands for: a decision may change that while the job waits.

    Raises:
        InvalidInput: as ``checkpoint_of``.
    """
    step = inputs.get("step")
    if step is None:
        step = session.scalars(select(func.max(Checkpoint.step)).where(Checkpoint.job_id == version.job_id)).one()
    return checkpoint_of(session, version, step)


def stored(session: Session, checkpoint: Checkpoint, task_set: AnySet, shard: Shard, sample: int, first: int) -> bool:
    """Whether the shard is there and lacks no verdict; of ``shard`` the judge, the prompt and the rival count."""
    row = session.scalar(_same(checkpoint, task_set, shard, sample, first))
    return row is not None and row.missing == 0


def store(
    session: Session, claim: Claim, version: Version, checkpoint: Checkpoint, task_set: AnySet, shard: Shard
) -> dict[str, Any]:
    """Store the shard that the claim's inputs name. One that is there already only gains the verdicts it lacked, and
    where the inputs say how many scenarios of the logs it ``held``, those that it did not hold.

    Returns counts of what is stored then.
    """
    sample, first = int(claim.inputs.get("sample", 0)), int(claim.inputs.get("first", 0))
    k, n = _counts(shard.verdicts)
    values = {
        "job_id": claim.job_id,
        "fence": claim.fence,
        "version_id": version.id,
        "checkpoint_id": checkpoint.id,
        "checkpoint_sha256": checkpoint.sha256,
        "task_set": task_set.model_dump(mode="json"),
        "task_set_hash": digest(task_set),
        "judge": shard.judge,
        "prompt_hash": shard.prompt_hash,
        "ids_sha256": ids_sha256([one["scenario_id"] for one in shard.verdicts]),
        "against": shard.against,
        "sample": sample,
        "first": first,
        "k": k,
        "n": n,
        "missing": len(shard.verdicts) - n,
    }
    # A second job of the same shard, of a version with equal weights, waits here for the first one's commit.
    made = insert(Evaluation).values(values).on_conflict_do_nothing(constraint="uq_evaluations_shard")
    evaluation_id = session.scalar(made.returning(Evaluation.id))
    if evaluation_id is not None:
        rows = [dict(one) | {"evaluation_id": evaluation_id} for one in shard.verdicts]
        if rows:
            session.execute(insert(Verdict), rows)
        return {"k": k, "n": n, "missing": len(rows) - n}
    row = session.scalars(_same(checkpoint, task_set, shard, sample, first).with_for_update()).one()
    filled = _fill(session, row, shard.verdicts) if row.missing else 0
    if "held" in claim.inputs:
        filled += _add(session, row, shard.verdicts)
    return {"k": row.k, "n": row.n, "missing": row.missing, "there_already": True, "filled": filled}


def _same(checkpoint: Checkpoint, task_set: AnySet, shard: Shard, sample: int, first: int) -> Any:
    return select(Evaluation).where(
        Evaluation.checkpoint_sha256 == checkpoint.sha256,
        Evaluation.task_set_hash == digest(task_set),
        Evaluation.judge == shard.judge,
        Evaluation.prompt_hash == shard.prompt_hash,
        Evaluation.against == shard.against,
        Evaluation.sample == sample,
        Evaluation.first == first,
    )


def _counts(verdicts: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    judged = [one["right"] for one in verdicts if one["right"] is not None]
    return sum(judged), len(judged)


def _fill(session: Session, row: Evaluation, verdicts: Sequence[Mapping[str, Any]]) -> int:
    """Give the row's scenarios without a verdict those that there are. Returns how many."""
    lacking = session.scalars(select(Verdict).where(Verdict.evaluation_id == row.id, Verdict.right.is_(None)))
    found = {(one["scenario_id"], one["sample"]): one for one in verdicts if one["right"] is not None}
    filled = 0
    for verdict in lacking:
        if (one := found.get((verdict.scenario_id, verdict.sample))) is None:
            continue
        for name in ("right", "rival_right", "content_hash", "turns", "type", "reason"):
            setattr(verdict, name, one.get(name))
        filled += 1
        row.k, row.n, row.missing = row.k + bool(one["right"]), row.n + 1, row.missing - 1
    session.flush()
    return filled


def _add(session: Session, row: Evaluation, verdicts: Sequence[Mapping[str, Any]]) -> int:
    """Give the row the scenarios that it does not hold. Returns how many."""
    held = set(session.scalars(select(Verdict.scenario_id).where(Verdict.evaluation_id == row.id)))
    more = [dict(one) | {"evaluation_id": row.id} for one in verdicts if one["scenario_id"] not in held]
    if more:
        session.execute(insert(Verdict), more)
        k, n = _counts(more)
        row.k, row.n, row.missing = row.k + k, row.n + n, row.missing + len(more) - n
        row.ids_sha256 = ids_sha256([*held, *(one["scenario_id"] for one in more)])
        session.flush()
    return len(more)


def compared(
    session: Session, candidate: Version, rival: Version | None, task_set: TaskSet | LoggedSet, step: int | None = None
) -> Verdicts:
    """Both versions' verdicts on the task set by type and scenario, by the newest judge and prompt whole for both.

    ``step`` names a checkpoint of the candidate other than the one that it stands for. A scenario's score is the mean
    of its samples, and its type is the one that the candidate's verdicts name: types may be given other names between
    two evaluations. On logs with a judge the candidate's rows hold both sides; with a verifier the scenarios count that
    both versions were asked about. Without a rival its side is empty.

    Raises:
        InvalidInput: a version was not evaluated.
        TransientError: by no judge and prompt do both have 95 % of the verdicts, or of logs 95 % of the scenarios in
            common. What is missing is evaluated again meanwhile.
    """
    is_duel = isinstance(task_set, LoggedSet) and bool(task_set.against)
    both = [candidate] if rival is None or is_duel else [candidate, rival]
    at = [checkpoint_of(session, candidate, step), *(checkpoint_of(session, one) for one in both[1:])]
    known = [_judged(session, one, which.sha256, task_set) for one, which in zip(both, at, strict=True)]
    lacking: list[str] = []
    for key in sorted(set(known[0]).intersection(*known), key=lambda one: known[0][one][0], reverse=True):
        sides = [one[key][1] for one in known]
        if not (less := _lacking(sides, task_set)):
            return _verdicts(_in_common(sides, task_set), is_duel=is_duel)
        lacking.append(less)
    names = " and ".join(one.name for one in both)
    if lacking:
        remedy = f"at least {MIN_COVERAGE:.0%} are needed; `rlfleet jobs` says what became of the evaluations"
        raise TransientError(f"{names}: {'; '.join(lacking)}: {remedy}")
    keys = " and ".join(str(sorted(one)) for one in known)
    raise TransientError(f"{names} were judged by different judges or prompts, {keys}; evaluate both again")


Row = tuple[str, bool | None, bool | None]
"""Type, right, and right of the other."""
Rows = dict[tuple[str, int], Row]
"""By scenario and sample."""

VERDICTS = text(f"select * from ({ONCE}) once")  # noqa: S608 (of a constant)


def _judged(
    session: Session, version: Version, sha256: str, task_set: AnySet
) -> dict[tuple[str, str], tuple[int, Rows]]:
    """By judge and prompt hash: the newest row's id, and the verdicts."""
    newest: dict[tuple[str, str], int] = defaultdict(int)
    rows: dict[tuple[str, str], Rows] = defaultdict(dict)
    for one in session.execute(VERDICTS, {"hashes": [sha256], "task_set": digest(task_set)}):
        key = one.judge, one.prompt_hash
        newest[key] = max(newest[key], one.id)
        rows[key][one.scenario_id, one.sample] = one.type, one.right, one.rival_right
    if not rows:
        raise InvalidInput("evaluation", version.name, "this version was not evaluated on the decision's task set")
    return {key: (newest[key], rows[key]) for key in rows}


def _in_common(sides: Sequence[Rows], task_set: AnySet) -> list[Rows]:
    """Each side's rows; of logs, which may have held others when one was evaluated, those that all have."""
    if isinstance(task_set, TaskSet):
        return list(sides)
    places = set(sides[0]).intersection(*sides)
    return [{place: one for place, one in rows.items() if place in places} for rows in sides]


def _lacking(sides: Sequence[Rows], task_set: AnySet) -> str:
    """What is missing for a decision, in words; empty where nothing is."""
    asked, common = task_set.count * task_set.samples, _in_common(sides, task_set)
    if isinstance(task_set, LoggedSet):
        most, asked = min(asked, max(map(len, sides))), len(common[0])
        if asked < MIN_COVERAGE * most:
            return f"{asked} of {most} scenarios in common"
    judged = min(sum(one[1] is not None for one in rows.values()) for rows in common)
    return "" if judged and judged >= MIN_COVERAGE * asked else f"{judged} of {asked} verdicts"


def _verdicts(sides: Sequence[Rows], *, is_duel: bool) -> Verdicts:
    """Of the rows that were judged; those of a duel hold the other version's verdicts too."""
    types, other = _types(sides[0]), 2 if is_duel else 1
    shown = [{place: one for place, one in rows.items() if one[1] is not None} for rows in sides]
    theirs = shown[0] if is_duel else shown[1] if len(shown) > 1 else {}
    return Verdicts(candidate=_scores(shown[0], 1, types), stable=_scores(theirs, other, types))


def _types(rows: Rows) -> dict[str, str]:
    """The type of each scenario: that of its last sample that was judged, if any was."""
    judged = sorted(rows.items(), key=lambda one: (one[1][1] is not None, one[0]))
    return {scenario: one[0] for (scenario, _), one in judged}


def _scores(rows: Rows, side: int, types: Mapping[str, str]) -> Scores:
    """The mean of the samples by type and scenario."""
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (scenario, _), one in rows.items():
        samples[types.get(scenario, one[0]), scenario].append(float(bool(one[side])))
    scores: Scores = defaultdict(dict)
    for (name, scenario), values in samples.items():
        scores[name][scenario] = sum(values) / len(values)
    return dict(scores)
