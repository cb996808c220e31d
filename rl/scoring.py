"""From what happened to the number used to train.

A score row says how the number came to be. Scores of different methods are never compared, nor are those of a judge
that were not given in one answer: ``comparable`` is what must be equal within a group that is trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import Any, Literal

from rl.config import digest
from rl.heuristics import VERSION, Scored, Unscored, heuristic_scores
from rl.observed import right
from rl.records import Trajectory
from rl.scoring_config import Scoring, Term, Variant

COMPOSITE_VERSION = "1"
Chance = Literal["later", "tomorrow", "mended", "other"]
"""When there may be a score: on asking again, when the next day's budget begins, once a person mended something, or for
another question, which this one says nothing of."""


@dataclass(frozen=True)
class ScoreRow:
    """One row of the table of scores. ``input_hash`` is equal where the method was given the same.

    ``cost`` is this trajectory's share of what the judge's answer cost. ``compared_in`` names the group that a
    relative score was made in.
    """

    trajectory_id: str
    method: str
    method_version: str
    input_hash: str
    score: float
    rubric_hash: str | None = None
    judge: str | None = None
    cost: float | None = None
    explanation: str | None = None
    compared_in: str | None = None

    def row(self) -> dict[str, Any]:
        """Every column by its name."""
        return asdict(self)

    @property
    def comparable(self) -> tuple[str | None, ...]:
        """Two scores can be compared if and only if this is equal."""
        return self.method, self.method_version, self.rubric_hash, self.judge, self.compared_in


@dataclass(frozen=True)
class NoScore:
    """A trajectory that the method gave no score, and when there may be one; see ``Chance``."""

    trajectory_id: str
    method: str
    reason: str
    chance: Chance | None = None

    @property
    def transient(self) -> bool:
        """Whether asking again may give a score, without anybody doing something."""
        return self.chance in ("later", "tomorrow")


def by_reward(trajectory_id: str, reward: float) -> dict[str, Any]:
    """The environment's own reward as the score: the columns of its row that have a value."""
    return {name: value for name, value in of_reward(trajectory_id, reward).row().items() if value is not None}


def of_reward(trajectory_id: str, reward: float) -> ScoreRow:
    """The environment's or the log's own reward as the score."""
    explanation = "the reward of the episode"
    return ScoreRow(trajectory_id, "reward", "1", digest(trajectory_id, reward), reward, explanation=explanation)


def scores(
    trajectories: Sequence[Trajectory], config: Scoring, feedback: Mapping[str, float] | None = None
) -> list[ScoreRow | NoScore]:
    """A score for each of a window's trajectories, in order, by a method that needs no judge.

    ``feedback`` has the value of a trajectory that somebody gave one.
    """
    found = _unruled(trajectories, config, feedback or {})
    if config.lone_rule != "skip":
        return found
    size = Counter(one.scenario_id for one in trajectories)
    reason = "alone in its scenario, and scoring.lone = skip"
    return [
        NoScore(one.trajectory_id, method_name(config), reason) if size[one.scenario_id] == 1 else row
        for one, row in zip(trajectories, found, strict=True)
    ]


def method_name(config: Scoring) -> str:
    """The method as score rows say it, such as ``reward`` or ``heuristic:service``."""
    return f"heuristic:{config.variant}" if config.method == "heuristic" else config.method


def heuristic_rows(
    trajectories: Sequence[Trajectory], variant: Variant, explanation: str = ""
) -> list[ScoreRow | NoScore]:
    """The scores of a heuristic, in order. ``explanation`` says why it was asked; the parts follow."""
    found = heuristic_scores(trajectories, variant)
    return [_heuristic(one, variant, what, explanation) for one, what in zip(trajectories, found, strict=True)]


def _unruled(
    trajectories: Sequence[Trajectory], config: Scoring, feedback: Mapping[str, float]
) -> list[ScoreRow | NoScore]:
    if config.method == "heuristic" and config.variant:
        return heuristic_rows(trajectories, config.variant)
    if config.method == "composite" and config.weights:
        return _composite(trajectories, config.weights, feedback)
    return [_reward(one) for one in trajectories]


def _reward(trajectory: Trajectory) -> ScoreRow | NoScore:
    """A source without a reward says so by a ``reward`` of None in the metadata; 0 would be a judgement."""
    if "reward" in trajectory.metadata and trajectory.metadata["reward"] is None:
        return NoScore(trajectory.trajectory_id, "reward", "its source has no reward")
    return of_reward(trajectory.trajectory_id, trajectory.reward)


def _heuristic(
    trajectory: Trajectory, variant: Variant, found: Scored | Unscored, explanation: str
) -> ScoreRow | NoScore:
    method = f"heuristic:{variant}"
    if isinstance(found, Unscored):
        return NoScore(trajectory.trajectory_id, method, found.reason)
    made_of = ", ".join(f"{name} {value:.3g}" for name, value in found.parts.items())
    return ScoreRow(
        trajectory.trajectory_id,
        method,
        VERSION,
        digest(trajectory.trajectory_id, trajectory.archetype, dict(found.parts)),
        found.score,
        explanation=f"{explanation}: {made_of}" if explanation else made_of,
    )


def _composite(
    trajectories: Sequence[Trajectory], weights: Mapping[Term, float], feedback: Mapping[str, float]
) -> list[ScoreRow | NoScore]:
    """The mean of the terms by their weights. Without one of them there is no score: it would be another mix."""
    used = {term: weights[term] for term in sorted(weights) if weights[term]}
    terms = {term: _term(term, trajectories, feedback) for term in used}
    total = fsum(used.values())
    rows: list[ScoreRow | NoScore] = []
    for place, one in enumerate(trajectories):
        values = {term: column[place] for term, column in terms.items()}
        missing = [f"{term} ({value.reason})" for term, value in values.items() if isinstance(value, Unscored)]
        if missing:
            rows.append(NoScore(one.trajectory_id, "composite", f"without {', '.join(missing)}"))
            continue
        plain = {str(term): value for term, value in values.items() if not isinstance(value, Unscored)}
        rows.append(_mixed(one.trajectory_id, plain, {str(term): weight / total for term, weight in used.items()}))
    return rows


def _mixed(trajectory_id: str, values: Mapping[str, float], shares: Mapping[str, float]) -> ScoreRow:
    return ScoreRow(
        trajectory_id,
        "composite",
        COMPOSITE_VERSION,
        digest(trajectory_id, dict(shares), dict(values)),
        fsum(shares[term] * value for term, value in values.items()),
        explanation=", ".join(f"{shares[term]:.3g} {term} {value:.3g}" for term, value in values.items()),
    )


def _term(term: Term, trajectories: Sequence[Trajectory], feedback: Mapping[str, float]) -> list[float | Unscored]:
    if term == "reward":
        return [one.reward for one in trajectories]
    if term == "feedback":
        return [feedback.get(one.trajectory_id, Unscored("nobody gave any")) for one in trajectories]
    if term == "outcome":
        return [_outcome(one) for one in trajectories]
    return [found if isinstance(found, Unscored) else found.score for found in heuristic_scores(trajectories, term)]


def _outcome(trajectory: Trajectory) -> float | Unscored:
    """The share of its turns that turned out right, of those that anybody knows of."""
    known = [verdict for turn in trajectory.turns if (verdict := right(turn)) is not None]
    return sum(known) / len(known) if known else Unscored("no outcome is known")
