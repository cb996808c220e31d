"""What a job's row should be, in plain Python, and what its events say that it became."""

from __future__ import annotations

from dataclasses import dataclass

from db import job_views
from db.job_states import TRANSITIONS, State


@dataclass
class Expected:
    """What the row should be. ``lapsed``: the lease ran out; ``waits``: a back-off has not passed."""

    state: State = State.QUEUED
    fence: int = 0
    attempt: int = 0
    interruptions: int = 0
    unwanted: bool = False
    adjusted: bool = False
    lapsed: bool = False
    waits: bool = False

    @property
    def free(self) -> bool:
        """Whether nobody holds the job now."""
        return self.state is State.QUEUED or (self.state is State.RUNNING and self.lapsed)

    def lost(self, max_attempts: int) -> None:
        """The attempt ended without a result."""
        if self.unwanted:
            self.state = State.CANCELLED
        elif self.attempt >= max_attempts:
            self.state = State.DEAD
        else:
            self.state, self.waits = State.QUEUED, True


def replayed(job_id: int, max_attempts: int) -> tuple[State, int, int]:
    """State, fence and attempt that the job's events lead to; each event must be one that can follow."""
    now: State | None = None
    fence = attempt = 0
    for event in job_views.events(job_id):
        before = State(event["from"]) if event["from"] else None
        assert before is now
        now = State(event["to"])
        assert now in TRANSITIONS[before], f"{before} -> {now}"
        assert event["fence"] == fence + (now is State.RUNNING), "the fence grows with each claim, and only then"
        assert 0 <= event["attempt"] <= max_attempts
        fence, attempt = event["fence"], event["attempt"]
    assert now is not None
    return now, fence, attempt
