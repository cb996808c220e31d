"""The episodes of one collect job of a round: those that wait to be stored, those that failed, and what became of all.

Episodes that ended well are stored in batches, each under the job's fence. Failed ones are recorded when the shard is
done, so that another attempt tries them again. The job that stores the last missing episode of a round moves it on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from celery.utils.log import get_task_logger

from rl.errors import DatabaseUnavailable, EngineUnavailable, TransientError
from worker.crash import crash_point

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.jobs import Claim
    from db.rounds import Played
    from db.tables import Window
    from environments.play import Assignment, Outcome
    from rl.config import Rollout
    from rl.records import Call, Trajectory

log = get_task_logger(__name__)

MOST_FAILED = 0.5
"""Where more of the episodes fail than this, they say nothing of the model, and are not recorded."""
MUTE = "an answer came without tokens and log-probabilities, and its round cannot be trained on with it"
LEAST_SCENARIOS = 4
"""A shard of fewer scenarios is judged with what the round has stored beside it: one bad scenario may be all of it."""


class _Rows(NamedTuple):
    """Episodes to store, how many calls those have whose calls are not all stored, and those without tokens."""

    whole: list[Trajectory]
    lacking: dict[str, str]
    mute: list[Outcome]


class Shard:
    """What one job plays: ``assignments``, of which those that were ``known`` when it began are stored already."""

    def __init__(
        self, claim: Claim, policy: str, rollout: Rollout, assignments: Sequence[Assignment], known: Collection[str]
    ) -> None:
        self.claim, self.policy, self.rollout, self.assignments = claim, policy, rollout, assignments
        self.window = str(claim.inputs["window"])
        self.known = {episode_of(one.trajectory_id) for one in assignments}.intersection(known)
        self.missing = [one for one in assignments if episode_of(one.trajectory_id) not in self.known]
        self.waiting: list[Outcome] = []
        self.failures: list[Outcome] = []
        self.stored = 0
        self._scenarios = len({scenario_of(one.trajectory_id) for one in assignments})
        self._started_at = datetime.now(UTC)

    def take(self, outcome: Outcome) -> None:
        """Keep an outcome until it is stored.

        Raises:
            TransientError: more than half of a shard with several scenarios has failed.
        """
        (self.failures if outcome.failed else self.waiting).append(outcome)
        self._check_whole(self.failures)

    def store(self) -> None:
        """Store the episodes that wait for it. While the database is away they go on waiting.

        Raises:
            Fenced: another holder has the job.
            EngineUnavailable: the gateway did not store every call of an episode; the others are stored.
            TransientError: another version plays the round, or as ``take``: calls without tokens are failures.
        """
        from db.holding import hold_briefly
        from db.session import transaction

        if not (batch := list(self.waiting)):
            return
        try:
            with transaction() as session:
                rows, lacking, mute = self._rows(session, batch)
            with transaction() as session:
                hold_briefly(session, self.claim)
                self.stored += self._insert(session, self._locked(session), rows)
        except DatabaseUnavailable as error:
            log.warning("job %s: %s episodes wait for the database: %s", self.claim.job_id, len(batch), error)
            return
        del self.waiting[: len(batch)]
        self.failures += mute
        crash_point("after-batch", self.claim.kind)
        _check_captured(lacking)
        self._check_whole(self.failures)

    def store_last(self) -> None:
        """``store``, where the attempt has failed: what it could not store is played again, and hides no error.

        Raises:
            Fenced: another holder has the job.
        """
        try:
            self.store()
        except TransientError as error:
            log.warning("job %s: episodes are played again: %s", self.claim.job_id, error)

    def effect(self, session: Session) -> dict[str, Any]:
        """Store what is left and record what failed; the round moves on when nothing of it is missing.

        Raises:
            EngineUnavailable: the gateway did not store every call of an episode.
            TransientError: another version plays the round, or more than half of what it has stored failed.
        """
        from db import rounds, trajectories

        rows, lacking, mute = self._rows(session, self.waiting)
        _check_captured(lacking)
        failures = [*self.failures, *mute]
        self._check_whole(failures)
        row = self._locked(session)
        self._insert(session, row, rows)
        trajectories.insert_quarantine(session, self.claim.line_id, row.id, list(map(_failure, failures)))
        played = rounds.played(session, row)
        self._check_share(played, failures)
        if len({episode_of(one.trajectory_id) for one in played}) >= self.rollout.scenarios * self.rollout.episodes:
            self._move_on(session, row, played)
        return self._told(played)

    def leave(self, session: Session) -> dict[str, Any]:
        """The effect where nothing more is played: a round that waits for this shard is given up."""
        from db import rounds, windows

        row = windows.locked(session, self.claim.line_id, self.window)
        given_up = rounds.give_up(session, row, self.policy)
        return self._told(rounds.played(session, row)) | ({"skipped": True} if given_up else {})

    def _move_on(self, session: Session, row: Window, played: Sequence[Played]) -> None:
        from db import rounds, windows

        if row.state not in rounds.PLAYABLE:
            return
        if all(one.failed for one in played):
            windows.move(session, row.id, "skipped", f"all {len(played)} episodes failed; the quarantine says why")
        else:
            windows.move(session, row.id, "collected")

    def _check_whole(self, failures: Sequence[Outcome]) -> None:
        """Raises ``TransientError`` where more than half of a shard with several scenarios has failed."""
        failed, total = len(failures), len(self.assignments)
        if self._scenarios >= LEAST_SCENARIOS and failed > MOST_FAILED * total:
            raise _useless(f"{failed} of {total} episodes failed", failures)

    def _check_share(self, played: Sequence[Played], failures: Sequence[Outcome]) -> None:
        """A small shard that has failures, by what the round has stored so far, its own episodes among it.

        Raises:
            TransientError: more than half failed, on several of enough scenarios.
        """
        if self._scenarios >= LEAST_SCENARIOS or not failures:
            return
        failed = [one for one in played if one.failed]
        seen, bad = ({scenario_of(one.trajectory_id) for one in several} for several in (played, failed))
        enough = min(LEAST_SCENARIOS, self.rollout.scenarios)
        if len(seen) >= enough and len(bad) > 1 and len(failed) > MOST_FAILED * len(played):
            raise _useless(f"{len(failed)} of {len(played)} episodes of the round so far failed", failures)

    def _rows(self, session: Session, outcomes: Sequence[Outcome]) -> _Rows:
        from db import calls

        spoken = calls.of_trajectories(session, [one.trajectory_id for one in outcomes])
        found = _Rows([], {}, [])
        for one in outcomes:
            said = spoken[one.trajectory_id]
            if len(said) != one.turns:
                found.lacking[one.trajectory_id] = f"{len(said)} of {one.turns}"
            elif any(call.token_ids != [] and not call.has_tokens for call in said):
                found.mute.append(one.given_up("engine", MUTE))
            else:
                found.whole.append(_trajectory(one, said, self.policy, self._started_at))
        return found

    def _locked(self, session: Session) -> Window:
        """The round's row, locked: shards count one after the other, and one version plays them all.

        Raises:
            TransientError: another version has played a part of the round.
        """
        from db import planning, windows

        row = windows.locked(session, self.claim.line_id, self.window)
        if (policy := planning.policy_of(session, row)) != self.policy:
            raise TransientError(f"{policy} plays {self.window}, and {self.policy} began this shard; it is played anew")
        return row

    def _insert(self, session: Session, row: Window, rows: Sequence[Trajectory]) -> int:
        from db import trajectories

        source = f"run:{self.rollout.environment}"
        return trajectories.insert_trajectories(session, self.claim.line_id, row.id, source, list(rows))

    def _told(self, played: Sequence[Played]) -> dict[str, Any]:
        """The job's result: what the shard has come to, whichever attempts played it."""
        found = {episode_of(one.trajectory_id): one for one in played}
        mine = [found[key] for one in self.assignments if (key := episode_of(one.trajectory_id)) in found]
        verdicts = [one.success for one in mine if one.success is not None]
        rate = sum(verdicts) / len(verdicts) if verdicts else None
        failed = sum(one.failed for one in mine)
        return {"trajectories": len(mine) - failed, "failed": failed, "policy": self.policy, "success": rate}


def episode_of(trajectory_id: str) -> str:
    """What the trajectory is an episode of, whichever attempt played it."""
    return trajectory_id.rpartition("/fence-")[0]


def scenario_of(trajectory_id: str) -> str:
    """The place in its run of the scenario that the trajectory is an episode on."""
    return episode_of(trajectory_id).rpartition("/")[0]


def _useless(counted: str, failures: Sequence[Outcome]) -> TransientError:
    counts = Counter(str(one.boundary) for one in failures)
    told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return TransientError(f"{counted} ({told}); {failures[0].trajectory_id}: {failures[0].words}")


def _check_captured(lacking: Mapping[str, str]) -> None:
    """Raises ``EngineUnavailable`` when the gateway did not store every call of every episode."""
    if lacking:
        trajectory_id, counts = next(iter(lacking.items()))
        others = f" (and {len(lacking) - 1} more such episodes)" if len(lacking) > 1 else ""
        raise EngineUnavailable(
            f"{counts} calls of {trajectory_id} are stored{others}: the rounds of a run need a gateway with "
            "RLFLEET_CAPTURE=spooled or required on the same database"
        )


def _trajectory(outcome: Outcome, calls: list[Call], policy: str, started_at: datetime) -> Trajectory:
    from rl.records import Trajectory

    details = {"truncated": outcome.truncated, "content_hash": outcome.content_hash, "success": outcome.success}
    known = {"boundary": outcome.boundary, "sandbox_level": outcome.sandbox_level}
    return Trajectory(
        trajectory_id=outcome.trajectory_id,
        scenario_id=outcome.scenario_id,
        agent_id=policy,
        started_at=started_at,
        ended_at=datetime.now(UTC),
        reward=outcome.reward,
        calls=calls,
        metadata=details | {name: value for name, value in known.items() if value},
    )


def _failure(outcome: Outcome) -> Any:
    from db.rounds import FAILED
    from rl.records import Quarantined

    field = str(outcome.boundary)
    return Quarantined(source=FAILED, row=outcome.trajectory_id, field=field, reason=outcome.words)
